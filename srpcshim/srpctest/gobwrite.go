package srpctest

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"math/bits"
	"slices"
	"strconv"
)

// Rewrite returns the last message that was read with another value: the definitions as they came, and the value by them. The value must be made
// of what Read returns.
func (g *Gob) Rewrite(value any) ([]byte, error) {
	body := gobAppendInt(nil, g.kind)
	if t := g.types[g.kind]; t == nil || t.kind != gobStruct {
		body = append(body, 0)
	}
	body, err := g.append(body, g.kind, value)
	if err != nil {
		return nil, err
	}
	return binaryFrame(slices.Clone(g.defined), body), nil
}

func binaryFrame(to, body []byte) []byte {
	return append(gobAppendUint(to, uint64(len(body))), body...)
}

func gobAppendUint(to []byte, u uint64) []byte {
	if u < 0x80 {
		return append(to, byte(u))
	}
	size := (bits.Len64(u) + 7) / 8
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], u)
	return append(append(to, byte(-size)), n[8-size:]...)
}

func gobAppendInt(to []byte, i int64) []byte {
	if i < 0 {
		return gobAppendUint(to, uint64(^i)<<1|1)
	}
	return gobAppendUint(to, uint64(i)<<1)
}

func (g *Gob) append(to []byte, kind int64, value any) ([]byte, error) {
	switch v := value.(type) {
	case bool:
		if v {
			return gobAppendUint(to, 1), nil
		}
		return gobAppendUint(to, 0), nil
	case int64:
		return gobAppendInt(to, v), nil
	case uint64:
		return gobAppendUint(to, v), nil
	case float64:
		return gobAppendUint(to, bits.ReverseBytes64(math.Float64bits(v))), nil
	case []byte:
		return append(gobAppendUint(to, uint64(len(v))), v...), nil
	case string:
		return append(gobAppendUint(to, uint64(len(v))), v...), nil
	}
	t := g.types[kind]
	if t == nil {
		return nil, fmt.Errorf("gob: %T as type %d", value, kind)
	}
	switch v := value.(type) {
	case []any:
		to = gobAppendUint(to, uint64(len(v)))
		var err error
		for _, e := range v {
			if to, err = g.append(to, t.elem, e); err != nil {
				return nil, err
			}
		}
		return to, nil
	case map[string]any:
		if t.kind == gobMap {
			return g.appendMap(to, t, v)
		}
		return g.appendStruct(to, t, v)
	}
	return nil, fmt.Errorf("gob: %T as type %d", value, kind)
}

func (g *Gob) appendStruct(to []byte, t *gobType, fields map[string]any) ([]byte, error) {
	last := 0
	for i, f := range t.fields {
		v, ok := fields[f.name]
		if !ok {
			continue
		}
		var err error
		if to, err = g.append(gobAppendUint(to, uint64(i+1-last)), f.id, v); err != nil {
			return nil, err
		}
		last = i + 1
	}
	return append(to, 0), nil
}

func (g *Gob) appendMap(to []byte, t *gobType, entries map[string]any) ([]byte, error) {
	to = gobAppendUint(to, uint64(len(entries)))
	for _, key := range slices.Sorted(maps.Keys(entries)) {
		var k any = key
		var err error
		if t.key == gobUint {
			k, err = strconv.ParseUint(key, 10, 64)
		}
		if err == nil {
			to, err = g.append(to, t.key, k)
		}
		if err == nil {
			to, err = g.append(to, t.elem, entries[key])
		}
		if err != nil {
			return nil, err
		}
	}
	return to, nil
}
