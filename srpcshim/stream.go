package srpcshim

import (
	"context"
	"errors"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/srpcshim/wire"
)

// converse serves one call of a stream method. Its errors end the connection.
func (s *session) converse(ctx context.Context, m *method) error {
	t := s.talk(ctx, s.mux.opts.Limits.request(m.Files))
	defer t.cancel()
	stop := context.AfterFunc(t.ctx, func() { //nolint:contextcheck // made from ctx
		_ = s.life.conn.SetReadDeadline(longAgo()) // wakes who reads for the handler; a closed connection has woken it
	})
	defer stop()
	d := m.open(t)
	for {
		stream := &serverStream{talk: t, dialogue: d}
		failure := s.mux.run(m, stream) //nolint:contextcheck // the stream has it
		stream.finish()
		err := d.End(failure)
		if errors.Is(err, wire.ErrAgain) {
			continue
		}
		err = errors.Join(err, t.unwatch())
		switch {
		case err != nil:
			return err
		case t.broken != nil:
			return t.broken
		case !t.begun:
			return wire.ErrClose // refused before the request was read, which would be taken for the next call
		default:
			return nil
		}
	}
}

// run runs the handler through the interceptors.
func (m *Mux) run(to *method, stream *serverStream) error {
	if to.stream == nil {
		return m.runUnary(to, stream)
	}
	info := &grpc.StreamServerInfo{FullMethod: to.FullMethod, IsClientStream: to.stream.ClientStreams, IsServerStream: to.stream.ServerStreams}
	if m.opts.Stream == nil {
		return to.stream.Handler(to.impl, stream)
	}
	return m.opts.Stream(to.impl, stream, info, to.stream.Handler)
}

// runUnary runs a handler of one request and one reply whose messages need a dialogue of their own.
func (m *Mux) runUnary(to *method, stream *serverStream) error {
	reply, err := to.handler(to.impl, stream.Context(), stream.RecvMsg, m.opts.Unary)
	if err != nil {
		return err
	}
	return stream.SendMsg(reply)
}

// serverStream is what the handler of a stream method talks to.
type serverStream struct {
	talk     *talk
	dialogue wire.Dialogue

	receiving sync.Mutex
	over      bool // the handler has returned
}

var _ grpc.ServerStream = (*serverStream)(nil)

// Context implements grpc.ServerStream. It carries the caller.
func (s *serverStream) Context() context.Context { return s.talk.ctx }

// SetHeader implements grpc.ServerStream. There are no headers in SRPC.
func (s *serverStream) SetHeader(metadata.MD) error { return nil }

// SendHeader implements grpc.ServerStream. There are no headers in SRPC, but some methods answer before there is anything to say.
func (s *serverStream) SendHeader(metadata.MD) error {
	if h, ok := s.dialogue.(wire.Header); ok {
		return h.SendHeader()
	}
	return nil
}

// SetTrailer implements grpc.ServerStream. There are no trailers in SRPC.
func (s *serverStream) SetTrailer(metadata.MD) {}

// SendMsg implements grpc.ServerStream.
func (s *serverStream) SendMsg(m any) error {
	message, ok := m.(proto.Message)
	if !ok {
		return fault.New(fault.Internal, "handler sends a %T", m)
	}
	if err := s.talk.ctx.Err(); err != nil {
		return err
	}
	return s.dialogue.Send(message)
}

// finish ends what still reads for the handler, which has returned. Nobody else waits for such a reader, and where it was interrupted is not
// known, so that the connection ends with the call.
func (s *serverStream) finish() {
	if !s.receiving.TryLock() {
		s.talk.cancel()
		s.receiving.Lock()
	}
	s.over = true
	s.receiving.Unlock()
}

// RecvMsg implements grpc.ServerStream. Like gRPC it refuses texts that are not UTF-8.
func (s *serverStream) RecvMsg(m any) error {
	message, ok := m.(proto.Message)
	if !ok {
		return fault.New(fault.Internal, "handler takes a %T", m)
	}
	s.receiving.Lock()
	defer s.receiving.Unlock()
	if s.over {
		return fault.New(fault.Canceled, "the call is over")
	}
	if err := s.dialogue.Recv(message); err != nil {
		return err
	}
	if _, err := proto.Marshal(message); err != nil {
		return fault.As(fault.InvalidArgument, err, "request")
	}
	return nil
}
