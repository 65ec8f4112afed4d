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
