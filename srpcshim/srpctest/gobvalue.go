package srpctest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/bits"
)

// gobDecoder takes a message apart. The first error stays.
type gobDecoder struct {
	g    *Gob
	rest []byte
	err  error
}

func (d *gobDecoder) done() error {
	if d.err == nil && len(d.rest) > 0 {
		return fmt.Errorf("gob: %d bytes too many", len(d.rest))
	}
	return d.err
}

func (d *gobDecoder) take(n uint64) []byte {
	if d.err != nil || n > uint64(len(d.rest)) {
		d.err = errors.Join(d.err, io.ErrUnexpectedEOF)
		return nil
	}
	taken := d.rest[:n]
	d.rest = d.rest[n:]
	return taken
}

func (d *gobDecoder) uint() uint64 {
	b := d.take(1)
	if b == nil {
		return 0
	}
	if b[0] < 0x80 {
		return uint64(b[0])
	}
	var n [8]byte
	size := -int(int8(b[0]))
	if size > 8 {
		d.err = errors.Join(d.err, errors.New("gob: no number"))
		return 0
	}
	copy(n[8-size:], d.take(uint64(size)))
	return binary.BigEndian.Uint64(n[:])
}

func (d *gobDecoder) int() int64 {
	u := d.uint()
	if u&1 != 0 {
		return ^int64(u >> 1)
	}
	return int64(u >> 1)
}

// top reads a value that stands alone: one that is no struct has a zero before it.
func (d *gobDecoder) top(kind int64) any {
	if t := d.g.types[kind]; t == nil || t.kind != gobStruct {
		d.uint()
	}
	return d.value(kind)
}

func (d *gobDecoder) value(kind int64) any {
	switch kind {
	case gobBool:
		return d.uint() != 0
	case gobInt:
		return d.int()
	case gobUint:
		return d.uint()
	case gobFloat:
		return math.Float64frombits(bits.ReverseBytes64(d.uint()))
	case gobBytes:
		return d.take(d.uint())
	case gobString:
		return string(d.take(d.uint()))
	case gobComplex:
		return [2]uint64{d.uint(), d.uint()}
	case gobInterface:
		return d.dynamic()
	}
	t := d.g.types[kind]
	if t == nil {
		d.err = errors.Join(d.err, fmt.Errorf("gob: type %d was not defined", kind))
		return nil
	}
	return d.composite(t)
}

func (d *gobDecoder) composite(t *gobType) any {
	switch t.kind {
	case gobStruct:
		fields := make(map[string]any)
		for at := uint64(0); d.err == nil; {
			delta := d.uint()
			if delta == 0 || d.err != nil {
				break
			}
			if delta > uint64(len(t.fields))-at {
				d.err = fmt.Errorf("gob: %d fields after %d of %d", delta, at, len(t.fields))
				break
			}
			at += delta
			fields[t.fields[at-1].name] = d.value(t.fields[at-1].id)
		}
		return fields
	case gobSlice:
		list := make([]any, 0)
		for n := d.uint(); n > 0 && d.err == nil; n-- {
			list = append(list, d.value(t.elem))
		}
		return list
	case gobMap:
		entries := make(map[string]any)
		for n := d.uint(); n > 0 && d.err == nil; n-- {
			key := fmt.Sprint(d.value(t.key))
			entries[key] = d.value(t.elem)
		}
		return entries
	default:
		return d.take(d.uint())
	}
}

// dynamic reads an interface value. Definitions within it do not occur where its type has none in it.
func (d *gobDecoder) dynamic() any {
	name := string(d.take(d.uint()))
	if name == "" {
		return nil
	}
	kind := d.int()
	if kind < 0 {
		d.err = errors.Join(d.err, errors.New("gob: a definition within a message"))
		return nil
	}
	d.uint() // the length
	return map[string]any{"@": name, "value": d.top(kind)}
}
