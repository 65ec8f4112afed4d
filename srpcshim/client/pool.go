package client

import (
	"errors"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// Close ends all connections, and the calls on them.
func (c *Conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	var errs []error
	for l := range c.open {
		errs = append(errs, l.Close())
	}
	clear(c.open)
	clear(c.idle)
	return errors.Join(errs...)
}

// take returns a connection that is not in use, or nil.
func (c *Conn) take(powers bool) *link {
	c.mu.Lock()
	defer c.mu.Unlock()
	free := c.idle[powers]
	if len(free) == 0 {
		return nil
	}
	l := free[len(free)-1]
	c.idle[powers] = free[:len(free)-1]
	return l
}

// register makes a connection one that Close ends.
func (c *Conn) register(l *link) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return errors.Join(errClosed(c.address), l.Close())
	}
	c.open[l] = struct{}{}
	return nil
}

// release keeps a connection for the next call.
func (c *Conn) release(l *link) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.open[l]; !ok {
		return
	}
	if len(c.idle[l.powers]) >= idleLinks {
		delete(c.open, l)
		_ = l.Close() // all that was asked was answered
		return
	}
	c.idle[l.powers] = append(c.idle[l.powers], l)
}

// drop ends a connection.
func (c *Conn) drop(l *link) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.open, l)
	_ = l.Close() // why it is not wanted any more was said
}

func errClosed(address string) error {
	return fault.New(fault.Canceled, "the connection to %s was closed", address)
}
