package libvirt

import (
	"context"
	"errors"
	"sync"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// pool lends connections to libvirtd. libvirtd serves five requests of a connection at once and makes the others wait, so quick and
// slow calls have pools of their own.
type pool struct {
	socket string
	slots  chan struct{} // holds one element for each connection that is lent

	mu     sync.Mutex
	idle   []*conn
	lent   map[*conn]struct{}
	closed bool
}

func newPool(socket string, size int) *pool {
	return &pool{socket: socket, slots: make(chan struct{}, size), lent: make(map[*conn]struct{}, size)}
}

// do calls f with a connection that no one else uses meanwhile. If ctx ends, the connection is closed and do returns ctx's error, unless
// f was done already. libvirtd may have obeyed a call whose answer did not come.
func (p *pool) do(ctx context.Context, f func(*conn) error) error {
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
	case <-ctx.Done():
		return classify(ctx.Err(), "waiting for a connection to libvirt")
	}
	c, err := p.take(ctx)
	if err != nil {
		return err
	}
	defer p.give(c)
	err = c.run(ctx, func() error { return f(c) })
	if ctxErr := ctx.Err(); ctxErr != nil && errors.Is(err, ctxErr) {
		return classify(err, "a call to libvirt was stopped")
	}
	return err
}

func (p *pool) take(ctx context.Context) (*conn, error) {
	c, err := p.takeIdle()
	if err != nil || c != nil {
		return c, err
	}
	c, err = connect(ctx, p.socket)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		c.close()
		return nil, errClosed()
	}
	p.lent[c] = struct{}{}
	return c, nil
}

// takeIdle returns a connection that is left from an earlier call, or nil.
func (p *pool) takeIdle() (*conn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, errClosed()
	}
	for len(p.idle) > 0 {
		c := p.idle[len(p.idle)-1]
		p.idle = p.idle[:len(p.idle)-1]
		if c.usable() {
			p.lent[c] = struct{}{}
			return c, nil
		}
		c.close()
	}
	return nil, nil
}

func (p *pool) isClosed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closed
}

func (p *pool) give(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.lent, c)
	if p.closed || !c.usable() {
		c.close()
		return
	}
	p.idle = append(p.idle, c)
}

// close ends all connections; calls under way fail.
func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, c := range p.idle {
		c.close()
	}
	for c := range p.lent {
		c.close()
	}
	p.idle = nil
}

func errClosed() error { return fault.New(fault.Unavailable, "the libvirt driver is closed") }
