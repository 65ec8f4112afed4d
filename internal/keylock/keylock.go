// Package keylock is a lock per key that honours a context: two calls on one VM wait for each other, calls on different VMs do not.
package keylock

import (
	"context"
	"sync"
)

// Map is a set of locks. The zero value is ready to use.
type Map[K comparable] struct {
	mu    sync.Mutex
	locks map[K]*lock
}

type lock struct {
	held chan struct{} // holds one element while locked
	refs int           // holder and waiters; the entry goes when it reaches zero
}

// Lock takes the key's lock and returns the function that gives it back, or the context's error if it ends first.
// The returned function must be called exactly once.
func (m *Map[K]) Lock(ctx context.Context, key K) (unlock func(), err error) {
	m.mu.Lock()
	if m.locks == nil {
		m.locks = make(map[K]*lock)
	}
	l := m.locks[key]
	if l == nil {
		l = &lock{held: make(chan struct{}, 1)}
		m.locks[key] = l
	}
	l.refs++
	m.mu.Unlock()

	select {
	case l.held <- struct{}{}:
		return func() { <-l.held; m.release(key, l) }, nil
	case <-ctx.Done():
		m.release(key, l)
		return nil, ctx.Err()
	}
}

func (m *Map[K]) release(key K, l *lock) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if l.refs--; l.refs == 0 {
		delete(m.locks, key)
	}
}
