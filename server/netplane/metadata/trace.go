package metadata

import "sync"

// traceBacklog is how many paths a reader of a trace may be behind.
const traceBacklog = 256

// Tracer tells who wants to know which paths a VM's guest reads. Make one with NewTracer.
type Tracer struct {
	mu      sync.Mutex
	readers map[string]map[chan string]struct{}
}

// NewTracer makes a tracer.
func NewTracer() *Tracer { return &Tracer{readers: make(map[string]map[chan string]struct{})} }

// Trace returns the paths that a VM's guest reads from now on, until stop is called. The channel is closed if its reader is too slow.
func (t *Tracer) Trace(uuid string) (paths <-chan string, stop func()) {
	c := make(chan string, traceBacklog)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.readers[uuid] == nil {
		t.readers[uuid] = make(map[chan string]struct{})
	}
	t.readers[uuid][c] = struct{}{}
	return c, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.drop(uuid, c)
	}
}

func (t *Tracer) drop(uuid string, c chan string) {
	delete(t.readers[uuid], c)
	if len(t.readers[uuid]) == 0 {
		delete(t.readers, uuid)
	}
}

// saw tells a VM's readers of a path.
func (t *Tracer) saw(uuid, path string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for c := range t.readers[uuid] {
		select {
		case c <- path:
		default:
			t.drop(uuid, c)
			close(c)
		}
	}
}
