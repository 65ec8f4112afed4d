package tftp

import (
	"bytes"
	"encoding/binary"
	"strings"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// The operations of RFC 1350, section 5, and RFC 2347.
const (
	opRead uint16 = iota + 1
	opWrite
	opData
	opAck
	opError
	opOptionAck
)

// The error codes of RFC 1350 that are used here.
const (
	errNotFound uint16 = 1
	errAccess   uint16 = 2
)

// request is a read or write request.
type request struct {
	name    string
	write   bool
	options map[string]string
}

// parseRequest understands a request. Names may begin with a slash, which means nothing.
func parseRequest(p []byte) (request, error) {
	bad := fault.New(fault.InvalidArgument, "TFTP: is no request")
	if len(p) < 2 {
		return request{}, bad
	}
	op := binary.BigEndian.Uint16(p)
	if op != opRead && op != opWrite {
		return request{}, bad
	}
	fields := bytes.Split(p[2:], []byte{0})
	// Name, mode and pairs of options, each with a final NUL, so that an empty field follows.
	if len(fields) < 3 || len(fields[len(fields)-1]) != 0 || len(fields[0]) == 0 {
		return request{}, bad
	}
	// "netascii" would change line ends of programs; who asks for it is sent the file as it is, as others do.
	if mode := strings.ToLower(string(fields[1])); mode != "octet" && mode != "netascii" {
		return request{}, bad
	}
	r := request{name: strings.TrimLeft(string(fields[0]), "/"), write: op == opWrite, options: make(map[string]string)}
	for pairs := fields[2 : len(fields)-1]; len(pairs) >= 2; pairs = pairs[2:] {
		r.options[strings.ToLower(string(pairs[0]))] = string(pairs[1])
	}
	return r, nil
}

// parseAck returns the number of an acknowledged block.
func parseAck(p []byte) (block uint16, ok bool) {
	if len(p) < 4 || binary.BigEndian.Uint16(p) != opAck {
		return 0, false
	}
	return binary.BigEndian.Uint16(p[2:]), true
}

func isError(p []byte) bool { return len(p) >= 2 && binary.BigEndian.Uint16(p) == opError }

func header(op, number uint16) []byte {
	return binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, op), number)
}
