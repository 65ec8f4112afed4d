package snapshot_test

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor/fake"
	"github.com/hyperplane-project/hyperplane/server/snapshot"
)

func (m *machine) root() string { return m.record.GetVolumeLocations()[0].GetFilename() }

// TestRunning takes a snapshot of a VM that runs, whose volumes are redirected while they are copied, and restores it.
func TestRunning(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.run()
	copied := 0
	m.copies.before = func(from, _ string) {
		copied++
		for _, p := range m.record.GetVolumeLocations() {
			if _, err := os.Stat(snapshot.RedirectFile(p.GetFilename())); err != nil {
				t.Errorf("while %s is copied: %v", from, err)
			}
		}
	}
	must(t, m.force("monday"))
	m.files(4)
	if copied != 2 {
		t.Errorf("%d copies", copied)
	}
	m.copies.before = nil
	m.fill("after")
	if err := m.restore("monday", false); !fault.Is(err, fault.FailedPrecondition) {
		t.Errorf("not forced: %v", err)
	}
	must(t, m.forceRestore("monday"))
	m.holds("before", "before")
	m.files(2)
	if diff := cmp.Diff([]string{"halt", "resume"}, m.calls); diff != "" {
		t.Error(diff)
	}
	if m.record.GetVmInfo().GetState() != hypervisorv1.State_STATE_RUNNING {
		t.Errorf("afterwards it is %v", m.record.GetVmInfo().GetState())
	}
}

// TestCrashed needs no driver: nobody writes.
func TestCrashed(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.enter(hypervisorv1.State_STATE_CRASHED)
	must(t, m.force("monday"))
	m.fill("after")
	must(t, m.forceRestore("monday"))
	m.holds("before", "before")
	if len(m.calls) != 0 {
		t.Errorf("calls: %v", m.calls)
	}
}

// TestRunningFailure fails to copy, and to merge; the snapshot is not there, and the next one merges what was left.
func TestRunningFailure(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.run()
	m.copies.before = func(_, to string) {
		if strings.Contains(to, "secondary") {
			m.host.FailNext(fake.MethodMergeDisks, fault.New(fault.Unavailable, "no virtualiser"))
		}
	}
	if err := m.force("x"); !fault.Is(err, fault.Unavailable) {
		t.Error(err)
	}
	m.files(4) // two overlays
	m.copies.before = nil
	must(t, m.force("x"))
	m.files(4) // two snapshots
	m.host.FailNext(fake.MethodRedirectDisks, fault.New(fault.FailedPrecondition, "a job is under way"))
	if err := m.force("y"); !fault.Is(err, fault.FailedPrecondition) {
		t.Error(err)
	}
	m.files(4)
}

// TestRecoverMerges finds overlays and copies of a daemon that was killed.
func TestRecoverMerges(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.run()
	must(t, m.driver.RedirectDisks(t.Context(), testUUID, map[string]string{m.root(): snapshot.RedirectFile(m.root())}),
		os.WriteFile(m.root()+".snapshot.x.unfinished", nil, 0o600), os.WriteFile(m.root()+".restored", nil, 0o600), m.Recover(t.Context()))
	m.files(2)
	m.holds("before", "before")
}

// TestRecoverRestores ends a restoration between two renames.
func TestRecoverRestores(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	must(t, m.take("monday", false))
	m.fill("after")
	// The record cannot be kept, so the journal stays; then the second rename is taken back, as if it had not happened.
	m.refuse = true
	if err := m.restore("monday", false); !errors.Is(err, errRefused) {
		t.Error(err)
	}
	m.refuse = false
	second := m.record.GetVolumeLocations()[1].GetFilename()
	must(t, os.Rename(second, second+".restored"), os.WriteFile(second, []byte("after"), 0o600))
	must(t, m.Recover(t.Context()))
	m.holds("before", "before")
	m.files(2)
	for i, v := range m.record.GetVmInfo().GetVolumes() {
		if len(v.GetSnapshots()) != 0 {
			t.Errorf("volume %d lists the snapshots %v", i, v.GetSnapshots())
		}
	}
}
