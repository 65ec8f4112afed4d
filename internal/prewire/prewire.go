// Package prewire lets many calls share one encoding of a message. A transport that encodes messages as protobuf marks its calls; their handlers may then
// answer with a message that was encoded before.
package prewire

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

type key struct{}

// On says whether the answer of a call is encoded as protobuf and not looked at before.
func On(ctx context.Context) bool {
	on, _ := ctx.Value(key{}).(bool)
	return on
}

// Message returns into, which must be empty, as the message whose encoding is raw. Fields that a message does not know are encoded as they came, which is all
// that is wanted here. raw must not be changed afterwards.
func Message[M proto.Message](into M, raw []byte) M {
	into.ProtoReflect().SetUnknown(raw)
	return into
}

// Unary marks unary calls.
func Unary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	return handler(context.WithValue(ctx, key{}, true), req)
}

// Stream marks streams.
func Stream(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	return handler(srv, &stream{ServerStream: ss, ctx: context.WithValue(ss.Context(), key{}, true)})
}

type stream struct {
	grpc.ServerStream
	ctx context.Context //nolint:containedctx // a grpc.ServerStream hands out its context; there is no other way to change it
}

func (s *stream) Context() context.Context { return s.ctx }
