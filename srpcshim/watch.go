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
	if err := s.life.conn.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	var watcher sync.WaitGroup
	watcher.Go(func() {
		if _, err := s.in.Peek(1); s.lost(err) {
			cancel()
		}
	})
	err := f(ctx)
	// Ends the watcher; the next wait for the client sets another deadline. What the watcher saw of the next call stays in the buffer.
	if end := s.life.conn.SetReadDeadline(longAgo()); err == nil {
		err = end
	}
	watcher.Wait()
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
