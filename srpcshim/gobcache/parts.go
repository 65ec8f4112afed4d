package gobcache

import (
	"errors"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

var (
	errMalformed = fault.New(fault.InvalidArgument, "gob: malformed message")
	errNoEncoder = errors.New("gob: no encoder")
)

// part takes the first part of a stream: a length, and that many bytes, which begin with a type number, negative in a definition. The source is the
// documentation of encoding/gob.
func part(raw []byte) (id int64, size int, err error) {
	length, n, err := number64(raw)
	if err != nil || length > uint64(len(raw)-n) {
		return 0, 0, errMalformed
	}
	size = n + int(length)
	v, _, err := number64(raw[n:size])
	if v&1 != 0 { // the lowest bit is the sign
		return ^int64(v >> 1), size, err
	}
	return int64(v >> 1), size, err
}

// number64 takes an unsigned number: one byte if it is below 128, otherwise the negated count of bytes, and the bytes, highest first.
func number64(raw []byte) (v uint64, size int, err error) {
	if len(raw) == 0 {
		return 0, 0, errMalformed
	}
	if raw[0] < 0x80 {
		return uint64(raw[0]), 1, nil
	}
	n := -int(int8(raw[0]))
	if n > 8 || len(raw) < 1+n {
		return 0, 0, errMalformed
	}
	for _, b := range raw[1 : 1+n] {
		v = v<<8 | uint64(b)
	}
	return v, 1 + n, nil
}

// definitions returns how many bytes of definitions a message begins with.
func definitions(raw []byte) (int, error) {
	for at := 0; ; {
		id, size, err := part(raw[at:])
		if err != nil || id >= 0 {
			return at, err
		}
		at += size
	}
}

// split takes a message apart.
func split(raw []byte) (defined []definition, value []byte, err error) {
	for {
		id, size, err := part(raw)
		if err != nil || id >= 0 {
			return defined, raw, err
		}
		defined = append(defined, definition{id, raw[:size:size]})
		raw = raw[size:]
	}
}
