// Package watch spreads machine events to any number of readers, for the drivers. A reader that is slow gets the latest state of
// each machine once, never a backlog. The package knows nothing of where events come from.
package watch

import (
	"context"
	"sync"

	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// Hub keeps the last event of each machine and hands it, and every later one, to each reader. The zero value is ready to use.
type Hub struct {
	mu      sync.Mutex
	last    map[string]hypervisor.Event
	readers map[*reader]struct{}
	closed  bool
	wg      sync.WaitGroup
}

// reader is one subscription. Its fields but changed are guarded by the hub's mutex.
type reader struct {
	pending map[string]hypervisor.Event
	order   []string      // the machines in pending, the one that has waited longest first
	changed chan struct{} // holds one element when pending changed or the hub closed
}

// Publish gives an event to every reader. It never waits for one.
func (h *Hub) Publish(ev hypervisor.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.last == nil {
		h.last = make(map[string]hypervisor.Event)
	}
	if ev.Gone {
		delete(h.last, ev.UUID)
	} else {
		h.last[ev.UUID] = ev
	}
	for r := range h.readers {
		r.add(ev)
	}
}

func (r *reader) add(ev hypervisor.Event) {
	if _, waits := r.pending[ev.UUID]; !waits {
		r.order = append(r.order, ev.UUID)
	}
	r.pending[ev.UUID] = ev
	r.wake()
}

func (r *reader) wake() {
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// Subscribe sends the last event of every machine that is not gone, then every later one. The channel is closed when ctx ends or
// the hub is closed.
func (h *Hub) Subscribe(ctx context.Context) <-chan hypervisor.Event {
	events := make(chan hypervisor.Event)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		close(events)
		return events
	}
	r := &reader{
		pending: make(map[string]hypervisor.Event, len(h.last)),
		order:   make([]string, 0, len(h.last)),
		changed: make(chan struct{}, 1),
	}
	for _, ev := range h.last {
		r.add(ev)
	}
	if h.readers == nil {
		h.readers = make(map[*reader]struct{})
	}
	h.readers[r] = struct{}{}
	h.wg.Go(func() { h.serve(ctx, r, events) })
	return events
}

// serve sends one event after the other. While it waits for the reader it looks again, so that what is sent is never outdated.
func (h *Hub) serve(ctx context.Context, r *reader, events chan<- hypervisor.Event) {
	defer close(events)
	defer h.remove(r)
	for {
		ev, some, open := h.peek(r)
		if !open {
			return
		}
		var out chan<- hypervisor.Event // nil, which is never ready, while there is nothing to send
		if some {
			out = events
		}
		select {
		case out <- ev:
			h.sent(r, ev)
		case <-r.changed:
		case <-ctx.Done():
			return
		}
	}
}

func (h *Hub) peek(r *reader) (ev hypervisor.Event, some, open bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(r.order) > 0 {
		ev, some = r.pending[r.order[0]], true
	}
	return ev, some, !h.closed
}

// sent takes an event off the queue. If the machine changed meanwhile, its later event waits at the end.
func (h *Hub) sent(r *reader, ev hypervisor.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r.order = r.order[1:]
	if r.pending[ev.UUID] != ev {
		r.order = append(r.order, ev.UUID)
		return
	}
	delete(r.pending, ev.UUID)
}

func (h *Hub) remove(r *reader) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.readers, r)
}

// Close ends all subscriptions and returns when their channels are closed.
func (h *Hub) Close() {
	h.mu.Lock()
	h.closed = true
	for r := range h.readers {
		r.wake()
	}
	h.mu.Unlock()
	h.wg.Wait()
}
