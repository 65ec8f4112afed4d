package feed_test

import (
	"testing"
	"time"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/server/feed"
)

func vm(uuid string, state hypervisorv1.State) *hypervisorv1.VmInfo {
	return &hypervisorv1.VmInfo{Uuid: uuid, State: state}
}

func newFeed() *feed.Feed { return feed.New(func() time.Time { return time.Unix(1000, 0) }) }

func TestFirstUpdateIsFullAndLaterOnesAreNot(t *testing.T) {
	t.Parallel()
	f := newFeed()
	f.PutVM(vm("a", hypervisorv1.State_STATE_RUNNING))
	first, sub := f.Subscribe(0)
	defer sub.Close()
	if !first.GetFull() || len(first.GetVms()) != 1 {
		t.Fatalf("first update: %v", first)
	}
	if u := sub.Take(); u != nil {
		t.Fatalf("nothing changed, but: %v", u)
	}
	f.PutVM(vm("b", hypervisorv1.State_STATE_RUNNING))
	u := sub.Take()
	if u.GetFull() || len(u.GetVms()) != 1 || u.GetVms()[0].GetUuid() != "b" || u.GetRevision() <= first.GetRevision() {
		t.Fatalf("second update: %v", u)
	}
}

func TestSlowReaderGetsTheLatestOfEach(t *testing.T) {
	t.Parallel()
	f := newFeed()
	_, sub := f.Subscribe(0)
	defer sub.Close()
	for range 1000 {
		f.PutVM(vm("a", hypervisorv1.State_STATE_STARTING))
	}
	f.PutVM(vm("a", hypervisorv1.State_STATE_RUNNING))
	f.PutVM(vm("b", hypervisorv1.State_STATE_RUNNING))
	f.DeleteVM(vm("b", hypervisorv1.State_STATE_DESTROYING))
	if u := sub.Take(); len(u.GetVms()) != 1 { // the first one, which went out at once
		t.Fatalf("first change: %v", u)
	}
	u := sub.Take()
	if len(u.GetVms()) != 1 || u.GetVms()[0].GetState() != hypervisorv1.State_STATE_RUNNING || len(u.GetDeletedVms()) != 1 {
		t.Fatalf("update: %v", u)
	}
}

func TestResumeAfterARevision(t *testing.T) {
	t.Parallel()
	f := newFeed()
	f.PutVM(vm("a", hypervisorv1.State_STATE_RUNNING))
	f.PutVM(vm("b", hypervisorv1.State_STATE_RUNNING))
	known, sub := f.Subscribe(0)
	sub.Close()
	f.PutVM(vm("c", hypervisorv1.State_STATE_RUNNING))
	f.DeleteVM(vm("a", hypervisorv1.State_STATE_RUNNING))
	u, sub := f.Subscribe(known.GetRevision())
	defer sub.Close()
	if u.GetFull() || len(u.GetVms()) != 1 || u.GetVms()[0].GetUuid() != "c" || len(u.GetDeletedVms()) != 1 {
		t.Fatalf("resumed: %v", u)
	}
	for name, revision := range map[string]uint64{"of an earlier run": 1, "of the future": u.GetRevision() + 1} {
		if u, sub := f.Subscribe(revision); !u.GetFull() || len(u.GetVms()) != 2 {
			t.Errorf("revision %s: %v", name, u)
		} else {
			sub.Close()
		}
	}
}

// TestSubscribersShareABatch: who has everything before a batch gets it, who is behind gets the latest of each.
func TestSubscribersShareABatch(t *testing.T) {
	t.Parallel()
	f := newFeed()
	_, a := f.Subscribe(0)
	_, b := f.Subscribe(0)
	_, slow := f.Subscribe(0)
	for range 200 { // more than are kept
		f.PutVM(vm("x", hypervisorv1.State_STATE_STARTING))
		ofA, ofB := a.TakeBatch(), b.TakeBatch()
		if ofA == nil || ofA != ofB || &ofA.Encoded()[0] != &ofB.Encoded()[0] {
			t.Fatalf("batches: %v, %v", ofA, ofB)
		}
	}
	select {
	case <-slow.Ready():
	default:
		t.Error("the slow one is not woken")
	}
	f.PutVM(vm("x", hypervisorv1.State_STATE_RUNNING))
	a.Take()
	if u := slow.Take(); len(u.GetVms()) != 1 || u.GetVms()[0].GetState() != hypervisorv1.State_STATE_RUNNING {
		t.Errorf("the slow one: %v", u)
	}
	if u := slow.Take(); u != nil {
		t.Errorf("nothing is new, but: %v", u)
	}
}

// TestMovedVM: watchers who know VMs by address learn that the old one has gone, before the new one.
func TestMovedVM(t *testing.T) {
	t.Parallel()
	f := newFeed()
	_, sub := f.Subscribe(0)
	defer sub.Close()
	at := func(ip string) *hypervisorv1.VmInfo {
		return &hypervisorv1.VmInfo{Uuid: "a", Address: &hypervisorv1.Address{IpAddress: ip}}
	}
	f.PutVM(at("10.0.0.1"))
	sub.Take()
	f.MoveVM(at("10.0.0.1"), at("10.0.1.1"))
	u := sub.Take()
	if len(u.GetDeletedVms()) != 1 || u.GetDeletedVms()[0].GetIpAddress() != "10.0.0.1" || len(u.GetVms()) != 1 {
		t.Errorf("update: %v", u)
	}
	if full, again := f.Subscribe(0); len(full.GetVms()) != 1 || len(full.GetDeletedVms()) > 0 {
		t.Errorf("full: %v", full)
	} else {
		again.Close()
	}
}
