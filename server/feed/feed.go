// Package feed keeps what a host's watchers may know and tells them what changes: VMs, subnets, addresses, figures of the host.
//
// Publishers put whole values in. A subscriber first gets everything (or what changed since the revision it knows), then batches: what changed in a short time,
// the latest value of each thing. A batch is made once and shared by all subscribers who have everything before it; one who is behind gets one update with
// the latest values. The first change after a quiet time goes out at once; the time of a batch grows with the number of subscribers, because each of them
// costs something at each batch. Values are shared and must never be changed after publication.
package feed

import (
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
)

const (
	// keptDeletions is how many deletions are remembered for subscribers that come back.
	keptDeletions = 4096
	// keptBatches is how many batches a subscriber may be behind before what changed is looked for among all things.
	keptBatches = 64
	// The time between two batches is perSubscriber for each subscriber, within bounds.
	perSubscriber = 15 * time.Microsecond
	minInterval   = 2 * time.Millisecond
	maxInterval   = 50 * time.Millisecond
)

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
	now  func() time.Time
	wait func(d time.Duration, f func()) // has f called after d

	mu          sync.Mutex
	revision    uint64 // of the last change
	sent        uint64 // of the last change that is in a batch
	oldest      uint64 // a subscriber that knows this revision can go on from it
	current     map[string]fragment
	deletions   []deletion
	open        map[string]fragment // the changes since the last batch
	batches     []*Batch            // the last ones
	wake        chan struct{}       // closed at each batch
	waiting     bool                // a batch is about to be closed
	lastBatch   time.Time
	subscribers int
}

// New makes an empty feed. Its revisions begin with the clock, so that they grow across restarts and those of an earlier run are not taken
// for ours.
func New(now func() time.Time) *Feed {
	start := uint64(now().UnixMicro())
	return &Feed{
		now: now, wait: func(d time.Duration, f func()) { time.AfterFunc(d, f) },
		revision: start, sent: start, oldest: start, current: make(map[string]fragment), open: make(map[string]fragment), wake: make(chan struct{}),
	}
}

// PutVM publishes a VM as it is now.
func (f *Feed) PutVM(info *hypervisorv1.VmInfo) {
	f.put("vm/"+info.GetUuid(), func(u *hypervisorv1.Update) { u.Vms = append(u.Vms, info) })
}

// MoveVM publishes that a VM has another address than before, which watchers who know VMs by their address take for the end of one and the begin of another.
func (f *Feed) MoveVM(old, info *hypervisorv1.VmInfo) {
	gone := &hypervisorv1.DeletedVm{Uuid: old.GetUuid(), IpAddress: old.GetAddress().GetIpAddress()}
	f.mu.Lock()
	f.remember(gone, "moved/"+gone.GetIpAddress())
	f.mu.Unlock()
	f.PutVM(info)
}

// DeleteVM publishes that a VM has gone.
func (f *Feed) DeleteVM(info *hypervisorv1.VmInfo) {
	gone := &hypervisorv1.DeletedVm{Uuid: info.GetUuid(), IpAddress: info.GetAddress().GetIpAddress()}
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.current, "vm/"+gone.GetUuid())
	f.remember(gone, "vm/"+gone.GetUuid())
}

// remember keeps a deletion. The caller holds mu.
func (f *Feed) remember(gone *hypervisorv1.DeletedVm, key string) {
	f.revision++
	f.deletions = append(f.deletions, deletion{f.revision, gone})
	if extra := len(f.deletions) - keptDeletions; extra > 0 {
		f.oldest = f.deletions[extra-1].revision
		f.deletions = slices.Clone(f.deletions[extra:])
	}
	f.changed(key, fragment{f.revision, deleted(gone)})
}

// SetSubnets publishes the subnets.
func (f *Feed) SetSubnets(l *hypervisorv1.SubnetList) {
	f.put("subnets", func(u *hypervisorv1.Update) { u.Subnets = l })
}

// SetAddressPool publishes the addresses. The list is made when somebody wants it, once.
func (f *Feed) SetAddressPool(list func() *hypervisorv1.AddressPool) {
	list = sync.OnceValue(list)
	f.put("addresses", func(u *hypervisorv1.Update) { u.AddressPool = list() })
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
	f.changed(key, fr)
}

func deleted(vm *hypervisorv1.DeletedVm) func(*hypervisorv1.Update) {
	return func(u *hypervisorv1.Update) { u.DeletedVms = append(u.DeletedVms, vm) }
}

// Subscribe returns the state now, in full or as the changes after a revision that is still known, and a subscription to what follows.
func (f *Feed) Subscribe(after uint64) (*hypervisorv1.Update, *Subscription) {
	f.mu.Lock()
	full := after < f.oldest || after > f.revision
	if full {
		after = 0
	}
	fragments := f.since(after, full)
	s := &Subscription{feed: f, revision: f.revision}
	f.subscribers++
	f.mu.Unlock()
	first := &hypervisorv1.Update{Revision: s.revision, Time: timestamppb.New(f.now()), Full: full}
	for _, fr := range fragments {
		fr.apply(first)
	}
	return first, s
}

// since returns what has changed after a revision, in the order of the things' names. The caller holds mu; fragments are applied without it.
func (f *Feed) since(after uint64, full bool) []fragment {
	keys := make([]string, 0, len(f.current))
	for k, fr := range f.current {
		if fr.revision > after {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, strings.Compare)
	fragments := make([]fragment, 0, len(keys))
	for _, k := range keys {
		fragments = append(fragments, f.current[k])
	}
	if full {
		return fragments
	}
	for _, d := range f.deletions {
		if d.revision > after {
			fragments = append(fragments, fragment{d.revision, deleted(d.vm)})
		}
	}
	return fragments
}
