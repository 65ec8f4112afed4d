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
// sending half still wants its answer; one that was killed breaks TLS or the TCP connection.
func (s *session) attended(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := s.life.conn.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	var watcher sync.WaitGroup
	watcher.Go(func() {
		if _, err := s.in.Peek(1); err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, os.ErrDeadlineExceeded) {
			cancel()
		}
	})
	err := f(ctx)
	// Ends the watcher; the next wait for the client sets another deadline. What the watcher saw of the next call stays in the buffer.
	err = errors.Join(err, s.life.conn.SetReadDeadline(longAgo()))
	watcher.Wait()
	return err
}
