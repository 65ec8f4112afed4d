// Package prewire lets many calls share one encoding of an answer. A transport says with a call how it encodes; a handler whose answer is the same for many
// callers keeps a Cache beside what the answer is made of and answers with Reply. Streams of protobuf have a mark of their own, On, and Message.
package prewire

import (
	"context"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

type (
	streamKey struct{}
	callKey   struct{}
)

// Call is one unary call as its transport sees it.
type Call struct {
	// Form names the encoding; it must be comparable. Calls with the same form and the same answer get the same bytes.
	Form any
	// Encode encodes an answer.
	Encode func(proto.Message) ([]byte, error)
	// Raw is the encoded answer if the handler had one; what the handler returned is empty then. It must not be changed.
	Raw []byte
}

// With returns the context for the handler of a call.
func With(ctx context.Context, c *Call) context.Context { return context.WithValue(ctx, callKey{}, c) }

// Cache keeps the encodings of one answer. The zero value is empty; it may be used by many goroutines.
type Cache struct {
	mu      sync.Mutex
	encoded map[any]func() []byte
}

// Reply answers a unary call with what build makes. If the transport has said how it encodes, that is done once for all calls of its form, and the message
// returned is empty; an answer that can not be encoded is left to the transport, which says why.
func Reply[M proto.Message](ctx context.Context, c *Cache, build func() M) M {
	call, ok := ctx.Value(callKey{}).(*Call)
	if !ok {
		return build()
	}
	c.mu.Lock()
	encoded := c.encoded[call.Form]
	if encoded == nil {
		encode := call.Encode
		encoded = sync.OnceValue(func() []byte {
			raw, err := encode(build())
			if err != nil {
				return nil
			}
			return raw
		})
		if c.encoded == nil {
			c.encoded = make(map[any]func() []byte)
		}
		c.encoded[call.Form] = encoded
	}
	c.mu.Unlock()
	if call.Raw = encoded(); len(call.Raw) == 0 {
		return build()
	}
	var none M
	empty, ok := none.ProtoReflect().New().Interface().(M)
	if !ok {
		call.Raw = nil
		return build()
	}
	return empty
}

// On says whether the messages of a stream are encoded as protobuf and not looked at before.
func On(ctx context.Context) bool {
	on, _ := ctx.Value(streamKey{}).(bool)
	return on
}

// Message returns into, which must be empty, as the message whose encoding is raw. Fields that a message does not know are encoded as they came, which is all
// that is wanted here. raw must not be changed afterwards.
func Message[M proto.Message](into M, raw []byte) M {
	into.ProtoReflect().SetUnknown(raw)
	return into
}

// Unary is for unary calls whose answers are encoded as protobuf.
func Unary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	c := &Call{Form: callKey{}, Encode: proto.Marshal}
	reply, err := handler(With(ctx, c), req)
	if message, ok := reply.(proto.Message); ok && err == nil && len(c.Raw) > 0 {
		return Message(message, c.Raw), nil
	}
	return reply, err
}

// Stream marks streams whose messages are encoded as protobuf.
func Stream(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	return handler(srv, &stream{ServerStream: ss, ctx: context.WithValue(ss.Context(), streamKey{}, true)})
}

type stream struct {
	grpc.ServerStream
	ctx context.Context //nolint:containedctx // a grpc.ServerStream hands out its context; there is no other way to change it
}

func (s *stream) Context() context.Context { return s.ctx }
