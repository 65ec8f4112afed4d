// Package wire is what the generated SRPC messages (gen/srpc) are made with: the shape of a method's table entry and the conversions of
// single values. It knows no message and no connection; the protocol itself is in srpcshim.
package wire

import (
	"google.golang.org/protobuf/proto"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// Method is a request/reply method: its name on the SRPC wire, its gRPC name, and how its messages are converted.
type Method struct {
	// Service and Name are the two halves of the method line.
	Service, Name string
	// FullMethod is gRPC's name, /package.Service/Method.
	FullMethod string
	// Files says that the request carries files, so that it may be large.
	Files   bool
	Request Codec
	Reply   Codec
}

// ErrorReply is a reply with an Error field. Most have one; errors of the others go into the status line.
type ErrorReply interface {
	// SetError puts an error's text into the reply.
	SetError(text string)
	// ErrorText returns it; empty = success.
	ErrorText() string
}

// Codec converts one message between its wire struct and its proto message.
type Codec struct {
	// New returns a pointer to an empty wire struct, to decode into.
	New func() any
	// Proto converts what New returned, filled in. Its errors are InvalidArgument faults that name the field.
	Proto func(message any) (proto.Message, error)
	// Wire converts a proto message to a pointer to a wire struct. Its errors are Internal faults that name the field.
	Wire func(message proto.Message) (any, error)
}

// NewCodec makes the codec of a wire struct W and its proto message M.
func NewCodec[W any, M proto.Message](toProto func(W) (M, error), toWire func(M) (W, error)) Codec {
	return Codec{
		New: func() any { return new(W) },
		Proto: func(message any) (proto.Message, error) {
			w, ok := message.(*W)
			if !ok {
				return nil, fault.New(fault.Internal, "SRPC message is a %T, want %T", message, w)
			}
			m, err := toProto(*w)
			return m, fault.As(fault.InvalidArgument, err, "request")
		},
		Wire: func(message proto.Message) (any, error) {
			m, ok := message.(M)
			if !ok {
				return nil, fault.New(fault.Internal, "message is a %T, want %T", message, m)
			}
			w, err := toWire(m)
			return &w, fault.As(fault.Internal, err, "message for SRPC")
		},
	}
}
