package monitor

import (
	"context"

	"google.golang.org/grpc"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/server/feed"
)

type wireKey struct{}

// MarkWire is a stream interceptor for transports that encode messages as protobuf: updates that many watch are then encoded once for all.
func MarkWire(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	return handler(srv, &wireStream{ServerStream: ss, ctx: context.WithValue(ss.Context(), wireKey{}, true)})
}

type wireStream struct {
	grpc.ServerStream
	ctx context.Context //nolint:containedctx // a grpc.ServerStream hands out its context; there is no other way to change it
}

func (s *wireStream) Context() context.Context { return s.ctx }

// response is a batch as a message for the transport.
func response(ctx context.Context, b *feed.Batch) *hypervisorv1.GetUpdatesResponse {
	onWire, _ := ctx.Value(wireKey{}).(bool)
	if encoded := b.Encoded(); onWire && len(encoded) > 0 {
		// Fields that a message does not know are encoded as they came, which is all that is wanted here.
		m := new(hypervisorv1.GetUpdatesResponse)
		m.ProtoReflect().SetUnknown(encoded)
		return m
	}
	return &hypervisorv1.GetUpdatesResponse{Update: b.Update()}
}
