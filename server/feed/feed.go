// Package feed keeps what a host's watchers may know and tells them what changes: VMs, subnets, addresses, figures of the host.
//
// Publishers put whole values in; a subscriber first gets everything (or what changed since the revision it knows), then the latest value of
// what changes. A slow subscriber gets fewer, later values. Values are shared by all subscribers and must never be changed after publication.
package feed

import (
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/coalesce"
)

// keptDeletions is how many deletions are remembered for subscribers that come back.
const keptDeletions = 4096

// fragment is a change of one thing: a VM, or one of the host's lists. apply puts it into an update.
type fragment struct {
	revision uint64
	apply    func(*hypervisorv1.Update)
}

type deletion struct {
	revision uint64
	vm       *hypervisorv1.DeletedVm
}

// Feed is the state that watchers see. Make one with New.
type Feed struct {
	now         func() time.Time
	mu          sync.Mutex
	revision    uint64
	oldest      uint64 // a subscriber that knows this revision can go on from it
	current     map[string]fragment
	deletions   []deletion
	subscribers map[*Subscription]struct{}
}

// New makes an empty feed. Its revisions begin with the clock, so that they grow across restarts and those of an earlier run are not taken
// for ours.
func New(now func() time.Time) *Feed {
	start := uint64(now().UnixMicro())
	return &Feed{now: now, revision: start, oldest: start, current: make(map[string]fragment), subscribers: make(map[*Subscription]struct{})}
}

// PutVM publishes a VM as it is now.
func (f *Feed) PutVM(info *hypervisorv1.VmInfo) {
	f.put("vm/"+info.GetUuid(), func(u *hypervisorv1.Update) { u.Vms = append(u.Vms, info) })
}

// DeleteVM publishes that a VM has gone.
func (f *Feed) DeleteVM(info *hypervisorv1.VmInfo) {
	gone := &hypervisorv1.DeletedVm{Uuid: info.GetUuid(), IpAddress: info.GetAddress().GetIpAddress()}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.revision++
	delete(f.current, "vm/"+gone.GetUuid())
	f.deletions = append(f.deletions, deletion{f.revision, gone})
	if extra := len(f.deletions) - keptDeletions; extra > 0 {
		f.oldest = f.deletions[extra-1].revision
		f.deletions = slices.Clone(f.deletions[extra:])
	}
	f.broadcast("vm/"+gone.GetUuid(), fragment{f.revision, deleted(gone)})
}

// SetSubnets publishes the subnets.
func (f *Feed) SetSubnets(l *hypervisorv1.SubnetList) {
	f.put("subnets", func(u *hypervisorv1.Update) { u.Subnets = l })
}

// SetAddressPool publishes the addresses.
func (f *Feed) SetAddressPool(p *hypervisorv1.AddressPool) {
	f.put("addresses", func(u *hypervisorv1.Update) { u.AddressPool = p })
}

// SetHost publishes the host's figures.
func (f *Feed) SetHost(h *hypervisorv1.HostStatus) {
	f.put("host", func(u *hypervisorv1.Update) { u.Host = h })
}

func (f *Feed) put(key string, apply func(*hypervisorv1.Update)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.revision++
	fr := fragment{f.revision, apply}
	f.current[key] = fr
	f.broadcast(key, fr)
}

func (f *Feed) broadcast(key string, fr fragment) {
	for s := range f.subscribers {
		s.queue.Put(key, fr)
	}
}

func deleted(vm *hypervisorv1.DeletedVm) func(*hypervisorv1.Update) {
	return func(u *hypervisorv1.Update) { u.DeletedVms = append(u.DeletedVms, vm) }
}

// Subscription is one watcher's view. Close it when done.
type Subscription struct {
	feed  *Feed
	queue *coalesce.Queue[string, fragment]
}

// Subscribe returns the state now, in full or as the changes after a revision that is still known, and a subscription to what follows.
func (f *Feed) Subscribe(after uint64) (*hypervisorv1.Update, *Subscription) {
	f.mu.Lock()
	defer f.mu.Unlock()
	first := &hypervisorv1.Update{Revision: f.revision, Time: timestamppb.New(f.now()), Full: after < f.oldest || after > f.revision}
	if first.GetFull() {
		after = 0
	}
	keys := make([]string, 0, len(f.current))
	for k, fr := range f.current {
		if fr.revision > after {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, strings.Compare)
	for _, k := range keys {
		f.current[k].apply(first)
	}
	if !first.GetFull() {
		for _, d := range f.deletions {
			if d.revision > after {
				deleted(d.vm)(first)
			}
		}
	}
	s := &Subscription{feed: f, queue: coalesce.New[string, fragment]()}
	f.subscribers[s] = struct{}{}
	return first, s
}

// Ready receives an element whenever there may be changes to take.
func (s *Subscription) Ready() <-chan struct{} { return s.queue.Ready() }

// Take returns the changes since the last call, or nil if there are none.
func (s *Subscription) Take() *hypervisorv1.Update {
	fragments := s.queue.Take()
	if len(fragments) == 0 {
		return nil
	}
	u := &hypervisorv1.Update{Revision: fragments[len(fragments)-1].revision, Time: timestamppb.New(s.feed.now())}
	for _, fr := range fragments {
		fr.apply(u)
	}
	return u
}

// Close ends the subscription.
func (s *Subscription) Close() {
	s.feed.mu.Lock()
	defer s.feed.mu.Unlock()
	delete(s.feed.subscribers, s)
}
