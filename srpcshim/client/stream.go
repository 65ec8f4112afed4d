package client

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// NewStream implements grpc.ClientConnInterface.
func (c *Conn) NewStream(ctx context.Context, _ *grpc.StreamDesc, method string, _ ...grpc.CallOption) (grpc.ClientStream, error) {
	switch method {
	case hypervisorv1.VolumeService_GetVmVolume_FullMethodName:
		v := newVolumeStream(ctx, c)
		return &stream[*hypervisorv1.GetVmVolumeRequest, *hypervisorv1.GetVmVolumeResponse]{ctx, v.send, v.closeSend, v.recv}, nil
	case hypervisorv1.UserDataService_GetVmUserData_FullMethodName:
		u := &userDataStream{ctx: ctx, conn: c}
		return &stream[*hypervisorv1.GetVmUserDataRequest, *hypervisorv1.GetVmUserDataResponse]{ctx, u.send, func() {}, u.recv}, nil
	default:
		return nil, toStatus(c.missing(method))
	}
}

// stream is a call with several messages. Its functions return faults; io.EOF as gRPC's do.
type stream[Q, A proto.Message] struct {
	ctx       context.Context //nolint:containedctx // of one call; its user may ask for it
	send      func(Q) error
	closeSend func()
	recv      func(A) error
}

// Header implements grpc.ClientStream. There are no headers in SRPC.
func (s *stream[Q, A]) Header() (metadata.MD, error) { return nil, nil }

// Trailer implements grpc.ClientStream. There are no trailers in SRPC.
func (s *stream[Q, A]) Trailer() metadata.MD { return nil }

// CloseSend implements grpc.ClientStream.
func (s *stream[Q, A]) CloseSend() error {
	s.closeSend()
	return nil
}

// Context implements grpc.ClientStream.
func (s *stream[Q, A]) Context() context.Context { return s.ctx }

// SendMsg implements grpc.ClientStream.
func (s *stream[Q, A]) SendMsg(m any) error {
	q, ok := m.(Q)
	if !ok {
		return toStatus(fault.New(fault.Internal, "a %T is sent", m))
	}
	return toStatus(s.send(q))
}

// RecvMsg implements grpc.ClientStream.
func (s *stream[Q, A]) RecvMsg(m any) error {
	a, ok := m.(A)
	if !ok {
		return toStatus(fault.New(fault.Internal, "a %T is expected", m))
	}
	proto.Reset(a)
	return toStatus(s.recv(a))
}
