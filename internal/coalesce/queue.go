// Package coalesce holds the queue between a fast writer and a slow reader: it keeps the latest value of each key, so that a reader who is
// behind gets fewer, later values, never a gap and never an unbounded backlog.
package coalesce

import (
	"slices"
	"sync"
)

// Queue keeps the latest value of each key until the reader takes them. Make one with New. Any number of writers, one reader.
type Queue[K comparable, V any] struct {
	mu      sync.Mutex
	pending map[K]item[V]
	count   uint64
	wake    chan struct{}
}

type item[V any] struct {
	order uint64
	value V
}

// New makes an empty queue.
func New[K comparable, V any]() *Queue[K, V] {
	return &Queue[K, V]{pending: make(map[K]item[V]), wake: make(chan struct{}, 1)}
}

// Put replaces the key's value and moves it to the end. It never blocks.
func (q *Queue[K, V]) Put(key K, value V) {
	q.mu.Lock()
	q.count++
	q.pending[key] = item[V]{order: q.count, value: value}
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// Ready receives an element whenever there may be something to take.
func (q *Queue[K, V]) Ready() <-chan struct{} { return q.wake }

// Take removes all values and returns them in the order of their last Put.
func (q *Queue[K, V]) Take() []V {
	q.mu.Lock()
	items := make([]item[V], 0, len(q.pending))
	for _, i := range q.pending {
		items = append(items, i)
	}
	clear(q.pending)
	q.mu.Unlock()
	slices.SortFunc(items, func(a, b item[V]) int {
		if a.order < b.order {
			return -1
		}
		return 1
	})
	values := make([]V, len(items))
	for i, it := range items {
		values[i] = it.value
	}
	return values
}
