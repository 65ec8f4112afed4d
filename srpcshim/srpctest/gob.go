package srpctest

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Gob reads one direction of a gob stream without Go types for its messages: the definitions that travel with them say what is in them.
// Structs and maps become map[string]any (fields that were not sent are missing, keys are as fmt prints them), slices and arrays []any, integers
// int64 and uint64; what only its type's own methods understand, like times, stays bytes. The zero value is a stream's beginning.
type Gob struct {
	types map[int64]*gobType
	// defined is the definitions that came with the last message, as they were sent; kind is the type of that message.
	defined []byte
	kind    int64
}

// gobType is a type of the stream. Elem and key are types' numbers.
type gobType struct {
	kind      gobKind
	fields    []gobField
	key, elem int64
}

type gobField struct {
	name string
	id   int64
}

type gobKind int

const (
	gobStruct gobKind = iota + 1
	gobSlice
	gobMap
	gobOpaque
)

// The numbers of types that need no definition, from the documentation of encoding/gob.
const (
	gobBool = iota + 1
	gobInt
	gobUint
	gobFloat
	gobBytes
	gobString
	gobComplex
	gobInterface
)

// Those that definitions are made of.
const (
	gobWire = 16 + iota
	gobArrayDef
	gobCommonDef
	gobSliceDef
	gobStructDef
	gobFieldDef
	gobFieldDefs
	gobMapDef
	gobMarshalerDef
)

// maxGob bounds a message of a test.
const maxGob = 64 << 20

// builtin returns the types of definitions.
func builtin() map[int64]*gobType {
	common := gobField{"CommonType", gobCommonDef}
	return map[int64]*gobType{
		gobWire: {kind: gobStruct, fields: []gobField{
			{"ArrayT", gobArrayDef},
			{"SliceT", gobSliceDef},
			{"StructT", gobStructDef},
			{"MapT", gobMapDef},
			{"GobEncoderT", gobMarshalerDef},
			{"BinaryMarshalerT", gobMarshalerDef},
			{"TextMarshalerT", gobMarshalerDef},
		}},
		gobArrayDef:     {kind: gobStruct, fields: []gobField{common, {"Elem", gobInt}, {"Len", gobInt}}},
		gobCommonDef:    {kind: gobStruct, fields: []gobField{{"Name", gobString}, {"Id", gobInt}}},
		gobSliceDef:     {kind: gobStruct, fields: []gobField{common, {"Elem", gobInt}}},
		gobStructDef:    {kind: gobStruct, fields: []gobField{common, {"Field", gobFieldDefs}}},
		gobFieldDef:     {kind: gobStruct, fields: []gobField{{"Name", gobString}, {"Id", gobInt}}},
		gobFieldDefs:    {kind: gobSlice, elem: gobFieldDef},
		gobMapDef:       {kind: gobStruct, fields: []gobField{common, {"Key", gobInt}, {"Elem", gobInt}}},
		gobMarshalerDef: {kind: gobStruct, fields: []gobField{common}},
	}
}

// Read reads a message with the definitions before it, and not a byte more.
func (g *Gob) Read(in *bufio.Reader) (any, error) {
	if g.types == nil {
		g.types = builtin()
	}
	g.defined = nil
	for {
		body, err := gobFrame(in)
		if err != nil {
			return nil, err
		}
		d := &gobDecoder{g: g, rest: body}
		kind := d.int()
		if kind >= 0 {
			value := d.top(kind)
			g.kind = kind
			return value, d.done()
		}
		g.define(-kind, d)
		g.defined = binaryFrame(g.defined, body)
		if err := d.done(); err != nil {
			return nil, err
		}
	}
}

func gobFrame(in *bufio.Reader) ([]byte, error) {
	n, err := gobLength(in)
	if err != nil {
		return nil, err
	}
	if n > maxGob {
		return nil, fmt.Errorf("gob: a message of %d bytes", n)
	}
	body := make([]byte, n)
	_, err = io.ReadFull(in, body)
	return body, err
}

func gobLength(in *bufio.Reader) (uint64, error) {
	first, err := in.ReadByte()
	if err != nil || first < 0x80 {
		return uint64(first), err
	}
	size := -int(int8(first))
	if size > 8 {
		return 0, errors.New("gob: no length")
	}
	var n [8]byte
	_, err = io.ReadFull(in, n[8-size:])
	return binary.BigEndian.Uint64(n[:]), err
}

func (g *Gob) define(id int64, d *gobDecoder) {
	def, _ := d.value(gobWire).(map[string]any)
	t := &gobType{kind: gobOpaque}
	for name, v := range def {
		inner, _ := v.(map[string]any)
		number := func(field string) int64 { n, _ := inner[field].(int64); return n }
		switch name {
		case "ArrayT", "SliceT":
			t.kind, t.elem = gobSlice, number("Elem")
		case "MapT":
			t.kind, t.key, t.elem = gobMap, number("Key"), number("Elem")
		case "StructT":
			t.kind = gobStruct
			fields, _ := inner["Field"].([]any)
			for _, f := range fields {
				m, _ := f.(map[string]any)
				name, _ := m["Name"].(string)
				kind, _ := m["Id"].(int64)
				t.fields = append(t.fields, gobField{name, kind})
			}
		}
	}
	g.types[id] = t
}
