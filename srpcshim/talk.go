package srpcshim

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/srpcshim/wire"
)

// maxKept bounds the buffer that a call keeps between its messages.
const maxKept = 64 << 10

// talk is the connection during one call of a stream method.
type talk struct {
	*session
	ctx    context.Context //nolint:containedctx // one call; the handler asks its stream for it
	cancel context.CancelFunc
	limit  int64 // of one message

	pending bytes.Buffer // one message, for the decoder
	decode  func(any) error
	out     bytes.Buffer
	encoder encoder

	mu      sync.Mutex // reads
	broken  error      // of reading: where the next message begins is not known
	begun   bool       // the request was read
	end     time.Time  // of all reading; zero = each read may take its time
	watcher *sync.WaitGroup

	writing sync.Mutex
}

var _ wire.Talk = (*talk)(nil)

func (s *session) talk(ctx context.Context, limit int64) *talk {
	t := &talk{session: s, limit: limit}
	t.ctx, t.cancel = context.WithCancel(ctx)
	t.decode, t.encoder = s.codec.decoder(&t.pending), s.codec.encoder()
	return t
}

func (t *talk) Context() context.Context { return t.ctx }

func (t *talk) Cancel() { t.cancel() }

func (t *talk) Text(err error) string { return text(err) }

// until sets how long a read may take; with the call's context it ends at once.
func (t *talk) until(patient bool) error {
	var end time.Time
	if !patient {
		end = time.Now().Add(t.mux.opts.Limits.Request)
	}
	if !t.end.IsZero() {
		end = t.end
	}
	err := t.life.conn.SetReadDeadline(end)
	if t.ctx.Err() != nil {
		return t.ctx.Err()
	}
	return err
}

// Hurry implements wire.Talk.
func (t *talk) Hurry() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.end = time.Now().Add(t.mux.opts.Limits.Request)
}

// Read implements wire.Talk.
func (t *talk) Read(message any, patient bool) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.ready(patient); err != nil {
		return err
	}
	t.begun = true
	raw, err := t.codec.read(t.in, t.limit)
	if err != nil {
		return t.fail(err)
	}
	t.owed = t.codec.skipEnd(t.in)
	t.pending = *bytes.NewBuffer(raw)
	defer func() { t.pending = bytes.Buffer{} }() // a call may last for long after a large request
	if err := guarded(t.decode, message); err != nil {
		return t.fail(fault.As(fault.InvalidArgument, err, "request"))
	}
	return nil
}

// ready ends the watching and sets how long the read may take.
func (t *talk) ready(patient bool) error {
	if err := t.unwatch(); err != nil {
		return t.fail(err)
	}
	if t.broken != nil {
		return t.broken
	}
	if err := t.until(patient); err != nil {
		return t.fail(err)
	}
	return nil
}

func (t *talk) fail(err error) error {
	if t.broken == nil {
		t.broken = err
	}
	if t.lost(err) || errors.Is(err, io.EOF) {
		t.cancel()
	}
	return err
}

// ReadRaw implements wire.Talk.
func (t *talk) ReadRaw(p []byte, patient bool) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.ready(patient); err != nil {
		return 0, err
	}
	if err := t.settle(); err != nil {
		return 0, t.fail(err)
	}
	n, err := t.in.Read(p)
	if err != nil {
		err = t.fail(err)
	}
	return n, err
}

// settle takes the end of a message before raw bytes: one newline, perhaps after a carriage return.
func (t *talk) settle() error {
	for t.owed {
		b, err := t.in.ReadByte()
		if err != nil {
			return err
		}
		if b == '\r' {
			continue
		}
		t.owed = false
		if b != '\n' {
			return t.in.UnreadByte()
		}
	}
	return nil
}

// Write implements wire.Talk.
func (t *talk) Write(parts ...any) error {
	t.writing.Lock()
	defer t.writing.Unlock()
	defer t.trim()
	for _, part := range parts {
		if raw, ok := part.([]byte); ok {
			t.out.Write(raw)
			continue
		}
		if err := t.encoder.encode(&t.out, part); err != nil {
			return fault.As(fault.Internal, err, "message for SRPC")
		}
	}
	return t.say()
}

// say sends what was encoded. A client that does not take it has gone, for which the handler is not to blame.
func (t *talk) say() error {
	err := t.write(t.out.Bytes())
	if err != nil {
		t.cancel()
	}
	return fault.As(fault.Canceled, err, "the client does not listen any more")
}

// Share implements wire.Talk.
func (t *talk) Share(key any, build func() (any, error)) error {
	said, err := t.mux.shared.get(sharedKey{t.encoding, key}, func() (any, []byte, error) {
		message, err := build()
		if err != nil {
			return nil, nil, err
		}
		value, err := t.codec.value(message)
		return message, value, fault.As(fault.Internal, err, "message for SRPC")
	})
	if err != nil {
		return err
	}
	t.writing.Lock()
	defer t.writing.Unlock()
	defer t.trim()
	if err := t.encoder.share(&t.out, said.like, said.value); err != nil {
		return fault.As(fault.Internal, err, "message for SRPC")
	}
	return t.say()
}

// trim empties what was written from, and gives back what only a large message needs.
func (t *talk) trim() {
	if t.out.Reset(); t.out.Cap() > maxKept {
		t.out = bytes.Buffer{}
	}
}

// guarded keeps a decoder's panic on hostile bytes from being more than an error.
func guarded(decode func(any) error, into any) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = malformed("%v", r)
		}
	}()
	return decode(into)
}
