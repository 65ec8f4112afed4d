package srpcshim

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"time"
)

// attended runs f with a context that ends when the client is lost, so that a call does not work on for nobody. A client that closes only its
// sending half still wants its answer.
func (s *session) attended(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	a := &attendance{session: s, lost: cancel}
	s.mux.attendants.add(a)
	err := f(ctx)
	s.mux.attendants.remove(a)
	if end := a.end(); err == nil {
		err = end
	}
	return err
}

// attendance is the watching of a client during a call.
type attendance struct {
	session *session
	lost    func()

	mu      sync.Mutex
	over    bool
	watcher *sync.WaitGroup // nil = nobody watches
}

func (a *attendance) begin() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.over {
		return
	}
	if a.session.life.conn.SetReadDeadline(time.Time{}) != nil {
		a.lost()
		return
	}
	a.watcher = new(sync.WaitGroup)
	a.watcher.Go(func() {
		if _, err := a.session.in.Peek(1); a.session.lost(err) {
			a.lost()
		}
	})
}

// end ends the watching; the next wait for the client sets another deadline. What the watcher saw of the next call stays in the buffer.
func (a *attendance) end() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.over = true
	if a.watcher == nil {
		return nil
	}
	err := a.session.life.conn.SetReadDeadline(longAgo())
	a.watcher.Wait()
	return err
}

// lost says whether an error of reading means that nobody waits for the answer any more. TLS tells the end of sending from the end of the
// connection; without TLS they look the same, and the client gets the benefit of the doubt.
func (s *session) lost(err error) bool {
	if errors.Is(err, io.EOF) {
		return s.below != nil && s.below.ended
	}
	return err != nil && !errors.Is(err, os.ErrDeadlineExceeded)
}
