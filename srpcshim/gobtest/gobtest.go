// Package gobtest makes gob messages that no encoder makes, for tests of what reads them. The format is that of encoding/gob's documentation.
package gobtest

import (
	"encoding/binary"
	"math/bits"
	"strings"
)

// The type numbers that need no definition.
const (
	Bool      = 1
	Uint      = 3
	Bytes     = 5
	String    = 6
	Interface = 8
	// First is the first number for definitions.
	First = 65
)

// Field is a field of a struct.
type Field struct {
	Name string
	Type int64
}

// AppendUint appends an unsigned number.
func AppendUint(to []byte, u uint64) []byte {
	if u < 0x80 {
		return append(to, byte(u))
	}
	size := (bits.Len64(u) + 7) / 8
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], u)
	return append(append(to, byte(-size)), n[8-size:]...)
}

// AppendInt appends a signed number.
func AppendInt(to []byte, i int64) []byte {
	if i < 0 {
		return AppendUint(to, uint64(^i)<<1|1)
	}
	return AppendUint(to, uint64(i)<<1)
}

// AppendText appends a string.
func AppendText(to []byte, text string) []byte {
	return append(AppendUint(to, uint64(len(text))), text...)
}

// Part puts its length before a part of a stream.
func Part(body []byte) []byte { return append(AppendUint(nil, uint64(len(body))), body...) }

// Value makes the part with a value of a defined type.
func Value(id int64, body []byte) []byte { return Part(append(AppendInt(nil, id), body...)) }

// define makes a definition: which of wireType's fields, and what follows the common part of it.
func define(id int64, which byte, rest []byte) []byte {
	body := append(AppendInt(nil, -id), which, 1, 2) // the only field; its first one, the common part, whose second one is the number
	return Part(append(append(AppendInt(body, id), 0), append(rest, 0, 0)...))
}

// Array defines an array type.
func Array(id, elem int64, length int64) []byte {
	return define(id, 1, AppendInt(append(AppendInt([]byte{1}, elem), 1), length))
}

// Slice defines a slice type.
func Slice(id, elem int64) []byte { return define(id, 2, AppendInt([]byte{1}, elem)) }

// Map defines a map type.
func Map(id, key, elem int64) []byte {
	return define(id, 4, AppendInt(append(AppendInt([]byte{1}, key), 1), elem))
}

// Struct defines a struct type.
func Struct(id int64, fields ...Field) []byte {
	if len(fields) == 0 {
		return define(id, 3, nil)
	}
	rest := AppendUint([]byte{1}, uint64(len(fields)))
	for _, f := range fields {
		rest = append(AppendInt(append(AppendText(append(rest, 1), f.Name), 1), f.Type), 0)
	}
	return define(id, 3, rest)
}

// Text returns a text of n bytes.
func Text(n int) string { return strings.Repeat("x", n) }
