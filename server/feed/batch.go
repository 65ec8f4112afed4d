package feed

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
)

// Batch is what changed in some time.
type Batch struct {
	after, revision uint64 // it leads from the one to the other
	at              time.Time
	fragments       map[string]fragment
	update          func() *hypervisorv1.Update
	encoded         func() []byte
}

func newBatch(after, revision uint64, at time.Time, fragments map[string]fragment) *Batch {
	b := &Batch{after: after, revision: revision, at: at, fragments: fragments}
	b.update = sync.OnceValue(b.build)
	b.encoded = sync.OnceValue(func() []byte {
		raw, err := proto.Marshal(&hypervisorv1.GetUpdatesResponse{Update: b.update()})
		if err != nil {
			return nil // it holds a text that is no UTF-8, which validation refuses before it gets here
		}
		return raw
	})
	return b
}

func (b *Batch) build() *hypervisorv1.Update {
	u := &hypervisorv1.Update{Revision: b.revision, Time: timestamppb.New(b.at)}
	for _, fr := range slices.SortedFunc(maps.Values(b.fragments), func(x, y fragment) int { return cmp.Compare(x.revision, y.revision) }) {
		fr.apply(u)
	}
	return u
}

// Revision is the revision that a subscriber has who knows the batch.
func (b *Batch) Revision() uint64 { return b.revision }

// Update returns the changes as a message that is made once. It must not be changed.
func (b *Batch) Update() *hypervisorv1.Update { return b.update() }

// Encoded returns a GetUpdatesResponse with the changes in its wire form, made once; nil if it has none.
func (b *Batch) Encoded() []byte { return b.encoded() }

// changed notes a change and has it go out: at once after a quiet time, otherwise with others. The caller holds mu.
func (f *Feed) changed(key string, fr fragment) {
	f.open[key] = fr
	if f.waiting {
		return
	}
	interval := min(max(time.Duration(f.subscribers)*perSubscriber, minInterval), maxInterval)
	quiet := f.now().Sub(f.lastBatch)
	if quiet >= interval || quiet < 0 {
		f.close()
		return
	}
	f.waiting = true
	f.wait(interval-quiet, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.waiting = false
		f.close()
	})
}

// close makes a batch of the open changes. The caller holds mu.
func (f *Feed) close() {
	if len(f.open) == 0 {
		return
	}
	f.lastBatch = f.now()
	f.batches = append(f.batches, newBatch(f.sent, f.revision, f.lastBatch, f.open))
	if extra := len(f.batches) - keptBatches; extra > 0 {
		f.batches = slices.Clone(f.batches[extra:])
	}
	f.open, f.sent = make(map[string]fragment), f.revision
	close(f.wake)
	f.wake = make(chan struct{})
}

// Subscription is one watcher's view, for one goroutine. Close it when done.
type Subscription struct {
	feed     *Feed
	revision uint64
}

// Ready is closed when there are changes to take. Ask anew each time.
func (s *Subscription) Ready() <-chan struct{} {
	s.feed.mu.Lock()
	defer s.feed.mu.Unlock()
	if s.revision < s.feed.sent {
		ready := make(chan struct{})
		close(ready)
		return ready
	}
	return s.feed.wake
}

// Take returns the changes since the last call as a message that must not be changed, or nil if there are none.
func (s *Subscription) Take() *hypervisorv1.Update {
	if b := s.TakeBatch(); b != nil {
		return b.Update()
	}
	return nil
}

// TakeBatch returns the changes since the last call, or nil if there are none.
func (s *Subscription) TakeBatch() *Batch {
	f := s.feed
	f.mu.Lock()
	defer f.mu.Unlock()
	if s.revision >= f.sent {
		f.close()
	}
	if s.revision >= f.sent {
		return nil
	}
	b := f.follow(s.revision)
	s.revision = b.revision
	return b
}

// follow returns what leads from a revision to the last batch. The caller holds mu.
func (f *Feed) follow(revision uint64) *Batch {
	i := slices.IndexFunc(f.batches, func(b *Batch) bool { return b.after <= revision && revision < b.revision })
	switch {
	case i >= 0 && i == len(f.batches)-1 && f.batches[i].after == revision:
		return f.batches[i]
	case i >= 0:
		all := make(map[string]fragment)
		for _, b := range f.batches[i:] {
			maps.Copy(all, b.fragments)
		}
		return newBatch(revision, f.sent, f.lastBatch, all)
	default:
		all := make(map[string]fragment)
		for i, fr := range f.since(revision, false) {
			all[strconv.Itoa(i)] = fr
		}
		return newBatch(revision, f.sent, f.lastBatch, all)
	}
}

// Close ends the subscription.
func (s *Subscription) Close() {
	s.feed.mu.Lock()
	defer s.feed.mu.Unlock()
	s.feed.subscribers--
}
