package srpcshim

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"

	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/prewire"
	"github.com/hyperplane-project/hyperplane/srpcshim/wire"
)

// call serves one method line and what follows it. Its errors end the connection; those of the method do not.
func (s *session) call(ctx context.Context) error {
	line, err := readLine(s.in)
	if err != nil {
		if r, ok := errors.AsType[*refusal](err); ok {
			return errors.Join(err, s.status(r.text))
		}
		return unexpected(err)
	}
	owed := s.owed
	s.owed = false
	if line == "" {
		if owed {
			return nil // the end of the last request, not a ping
		}
		return s.status("")
	}
	if line == upgradeMethod {
		return s.upgrade(ctx)
	}
	m, refusal := s.mux.admit(ctx, line)
	if err := s.status(refusal); err != nil || refusal != "" {
		return err
	}
	if m.open != nil {
		return s.converse(ctx, m)
	}
	return s.exchange(ctx, m)
}

// exchange serves one request and its reply.
func (s *session) exchange(ctx context.Context, m *method) error {
	message, err := s.codec.read(s.in, s.mux.opts.Limits.request(m.Files))
	if err != nil {
		// Where the next call begins is not known any more, so the client is told and the connection ends.
		return errors.Join(err, s.status(text(err)))
	}
	s.owed = s.codec.skipEnd(s.in)
	var out bytes.Buffer
	out.WriteByte('\n')
	err = s.attended(ctx, func(ctx context.Context) error { return s.answer(ctx, m, message, &out) })
	if err != nil {
		return s.status(text(err))
	}
	return s.write(out.Bytes())
}

// answer calls the method and writes its reply. An error goes into the reply if that has a place for it, otherwise it is returned.
func (s *session) answer(ctx context.Context, m *method, message []byte, out *bytes.Buffer) error {
	request := m.Request.New()
	if err := decode(s.codec, message, request); err != nil {
		return err
	}
	shared := &prewire.Call{Form: form{s.encoding, m.FullMethod}, Encode: func(reply proto.Message) ([]byte, error) {
		var encoded bytes.Buffer
		err := s.encode(m, reply, &encoded)
		return encoded.Bytes(), err
	}}
	reply, err := s.mux.invoke(prewire.With(ctx, shared), m, request)
	if err == nil && len(shared.Raw) > 0 {
		out.Write(shared.Raw)
		return nil
	}
	if err == nil {
		err = s.encode(m, reply, out)
		if err != nil {
			s.mux.opts.Log.LogAttrs(ctx, slog.LevelError, "reply can not be encoded", slog.String("method", m.FullMethod), slog.Any("error", err))
		}
		return err
	}
	failed, ok := m.Reply.New().(wire.ErrorReply)
	if !ok {
		return err
	}
	failed.SetError(text(err))
	return s.codec.encode(out, failed)
}

// form names what a reply is in this protocol.
type form struct {
	encoding encoding
	method   string
}

// encode appends a reply.
func (s *session) encode(m *method, reply proto.Message, out *bytes.Buffer) error {
	w, err := m.Reply.Wire(reply)
	if err != nil {
		return err
	}
	return s.codec.encode(out, w)
}

// decode keeps a decoder's panic on hostile bytes from being more than an error.
func decode(c codec, message []byte, into any) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = malformed("%v", r)
		}
	}()
	return c.decode(message, into)
}

// invoke converts a request and runs it through the interceptors and the handler.
func (m *Mux) invoke(ctx context.Context, to *method, request any) (proto.Message, error) {
	message, err := to.Request.Proto(request)
	if err != nil {
		return nil, err
	}
	reply, err := to.handler(to.impl, ctx, func(into any) error { return copyInto(into, message) }, m.opts.Unary)
	if err != nil {
		return nil, err
	}
	answer, ok := reply.(proto.Message)
	if !ok {
		return nil, fault.New(fault.Internal, "%s answered with a %T", to.FullMethod, reply)
	}
	return answer, nil
}

// copyInto fills a handler's request the way gRPC does, which refuses texts that are not UTF-8.
func copyInto(into any, message proto.Message) error {
	raw, err := proto.Marshal(message)
	if err != nil {
		return fault.As(fault.InvalidArgument, err, "request")
	}
	target, ok := into.(proto.Message)
	if !ok {
		return fault.New(fault.Internal, "handler takes a %T", into)
	}
	return proto.Unmarshal(raw, target)
}

// text is what a caller gets to see of an error.
func text(err error) string {
	if s, ok := status.FromError(err); ok {
		return s.Message()
	}
	return err.Error()
}

// maxStatus bounds a status line.
const maxStatus = 2 << 10

// status sends a status line: empty = accepted or success.
func (s *session) status(text string) error {
	if len(text) > maxStatus {
		text = text[:maxStatus]
	}
	return s.write([]byte(strings.NewReplacer("\n", " ", "\r", " ").Replace(text) + "\n"))
}
