package bolt

import (
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/hyperplane-project/hyperplane/internal/coalesce"
	"github.com/hyperplane-project/hyperplane/server/store"
)

// history is how many changes a watcher that comes back may have missed.
const history = 4096

// hub hands committed changes to watchers.
type hub struct {
	commit   sync.Mutex // held across a commit and its publication, so that both have one order
	mu       sync.Mutex
	recent   []store.Change // the last changes, oldest first
	oldest   uint64         // changes after this revision are all in recent
	revision uint64
	watchers map[*watcher]struct{}
	closed   chan struct{}
	once     sync.Once
}

func newHub(revision uint64) *hub {
	return &hub{oldest: revision, revision: revision, watchers: make(map[*watcher]struct{}), closed: make(chan struct{})}
}

func (h *hub) lockForCommit() (unlock func()) {
	h.commit.Lock()
	return h.commit.Unlock
}

func (h *hub) publish(revision uint64, changes []store.Change) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.revision = revision
	h.recent = append(h.recent, changes...)
	if extra := len(h.recent) - history; extra > 0 {
		h.oldest = h.recent[extra-1].Revision
		h.recent = slices.Clone(h.recent[extra:])
	}
	for w := range h.watchers {
		w.add(changes)
	}
}

func (h *hub) watch(ctx context.Context, prefix string, after uint64) (<-chan []store.Change, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if after != 0 && after < h.oldest {
		return nil, store.ErrCompacted
	}
	w := &watcher{prefix: prefix, queue: coalesce.New[string, store.Change]()}
	if after != 0 {
		i, _ := slices.BinarySearchFunc(h.recent, after+1, func(c store.Change, r uint64) int { return int(int64(c.Revision) - int64(r)) })
		w.add(h.recent[i:])
	}
	h.watchers[w] = struct{}{}
	out := make(chan []store.Change)
	go func() {
		defer close(out)
		defer h.forget(w)
		w.run(ctx, h.closed, out)
	}()
	return out, nil
}

func (h *hub) forget(w *watcher) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.watchers, w)
}

func (h *hub) close() { h.once.Do(func() { close(h.closed) }) }

// watcher keeps the latest change of each key until its reader takes them.
type watcher struct {
	prefix string
	queue  *coalesce.Queue[string, store.Change]
}

func (w *watcher) add(changes []store.Change) {
	for _, c := range changes {
		if strings.HasPrefix(c.Key, w.prefix) {
			w.queue.Put(c.Key, c)
		}
	}
}

func (w *watcher) run(ctx context.Context, closed <-chan struct{}, out chan<- []store.Change) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-closed:
			return
		case <-w.queue.Ready():
		}
		batch := w.queue.Take()
		if len(batch) == 0 {
			continue
		}
		select {
		case out <- batch:
		case <-ctx.Done():
			return
		case <-closed:
			return
		}
	}
}
