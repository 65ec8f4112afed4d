package vsphere

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// errClosed is the cause with which a view's Close ends streams that are still open.
var errClosed = fault.New(fault.Canceled, "the view was closed")

// stream is the content of one disk on its way. Bytes go from the connection straight into the caller's buffer.
type stream struct {
	body   io.ReadCloser
	cancel context.CancelCauseFunc
	stall  *time.Timer // runs only during a Read
	wait   time.Duration
	moved  func(position int64, end bool)
	failed func(err error, position int64) error
	closed func()

	position int64
	err      error
	once     sync.Once
}

func (v *view) newStream(ctx context.Context, cancel context.CancelCauseFunc, l *lease, id string, body io.ReadCloser) *stream {
	wait := v.p.tune.stall
	stall := time.AfterFunc(wait, func() {
		cancel(fault.New(fault.Unavailable, "nothing was received for %s", wait))
	})
	stall.Stop()
	s := &stream{body: body, cancel: cancel, stall: stall, wait: wait}
	s.moved = func(position int64, end bool) { v.moved(l, id, position, end) }
	s.failed = func(err error, position int64) error { return v.readFailed(ctx, l, id, err, position) }
	s.closed = func() {
		v.mu.Lock()
		delete(v.streams, s)
		v.mu.Unlock()
		v.p.slots.Release(1)
	}
	v.mu.Lock()
	v.streams[s] = struct{}{}
	v.mu.Unlock()
	return s
}

// Read implements io.Reader. An error stays.
func (s *stream) Read(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	s.stall.Reset(s.wait)
	n, err := s.body.Read(p)
	s.stall.Stop()
	s.position += int64(n)
	switch {
	case err == nil:
		s.moved(s.position, false)
	case errors.Is(err, io.EOF):
		s.err = io.EOF
		s.moved(s.position, true)
	default:
		s.err = s.failed(err, s.position)
	}
	return n, s.err
}

// Close implements io.Closer.
func (s *stream) Close() error {
	s.once.Do(func() {
		s.cancel(nil)
		_ = s.body.Close() // the connection is ours to drop, its error says nothing
		s.closed()
	})
	return nil
}

// moved notes how far a disk was read.
func (v *view) moved(l *lease, id string, position int64, end bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	t := v.track(id)
	t.position = max(t.position, position)
	if end {
		t.size, t.from = position, l
	}
}

func (v *view) track(id string) *track {
	t := v.tracks[id]
	if t == nil {
		t = new(track)
		v.tracks[id] = t
	}
	return t
}

// percent is how much of the VM's disks was read, as far as that can be told: streams are shorter than the disks they stand for. It is 100
// only when all were read to their end.
func (v *view) percent() int32 {
	v.mu.Lock()
	defer v.mu.Unlock()
	var read, total int64
	all := true
	for _, d := range v.m.vm.Disks {
		t := v.track(d.ID)
		total += d.Capacity
		if t.from != nil {
			read += d.Capacity
			continue
		}
		all = false
		read += min(t.position, d.Capacity)
	}
	if all || total == 0 {
		return 100
	}
	return int32(min(99, read/max(1, total/100)))
}

// readFailed says what the end of a connection means: the caller's own doing, a lease that is over, or a cut.
func (v *view) readFailed(ctx context.Context, l *lease, id string, err error, position int64) error {
	name, _ := v.diskName(id)
	if why := context.Cause(ctx); why != nil {
		return fault.Wrap(why, "vm %q: %s: after %d bytes", v.m.vm.Path, name, position)
	}
	if why := l.check(ctx); why != nil {
		return fault.As(fault.Aborted, why, "vm %q: %s: the export lease was lost after %d bytes; open the disk again to read it from a fresh lease", v.m.vm.Path, name, position)
	}
	return classify(err, "vm %q: %s: after %d bytes", v.m.vm.Path, name, position)
}

// cutStreams ends the streams that are still open. Their next Read says that the view was closed.
func (v *view) cutStreams() {
	v.mu.Lock()
	defer v.mu.Unlock()
	for s := range v.streams {
		s.cancel(errClosed)
	}
}
