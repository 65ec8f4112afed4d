package vsphere_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/providers/driver"
	"github.com/hyperplane-project/hyperplane/providers/vsphere"
	"github.com/hyperplane-project/hyperplane/providers/vsphere/vcentersim"
)

// TestProgressIsTrue follows the percentages that a lease is told while its disks are read.
func TestProgressIsTrue(t *testing.T) {
	t.Parallel()
	sim := oneVM(t, vcentersim.Config{}, vcentersim.VM{Name: "vm"}, noise(1, 2<<20), noise(2, 1<<20))
	v := openView(t, connect(t, settings(t, sim), vsphere.WithProgressInterval(5*time.Millisecond)), "vm", driver.OpenOptions{})
	last := func() int32 {
		p := sim.Record().Leases[0].Progress
		if len(p) == 0 {
			return -1
		}
		return p[len(p)-1]
	}
	until(t, "progress of 0 before anything was read", func() bool { return last() == 0 })
	if _, err := readDisk(t, v, 0); err != nil {
		t.Fatal(err)
	}
	until(t, "progress of two thirds after the first disk", func() bool { return last() == 66 })
	if _, err := readDisk(t, v, 1); err != nil {
		t.Fatal(err)
	}
	until(t, "progress of 100 after both disks", func() bool { return last() == 100 })
	if err := v.Close(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	lease := sim.Record().Leases[0]
	if lease.State != vcentersim.LeaseComplete || !slices.IsSorted(lease.Progress) {
		t.Errorf("the lease ended as %s with progress %v", lease.State, lease.Progress)
	}
}

// TestOneLeaseOverManyLifetimes keeps a view open for several times the life of a lease without reading.
func TestOneLeaseOverManyLifetimes(t *testing.T) {
	t.Parallel()
	data := noise(1, 1<<20)
	sim := oneVM(t, vcentersim.Config{LeaseTimeout: time.Second}, vcentersim.VM{Name: "vm"}, data)
	v := openView(t, connect(t, settings(t, sim)), "vm", driver.OpenOptions{})
	// Failures of a few renewals, which must not end it either.
	sim.FailCalls("HttpNfcLeaseProgress", &types.HostCommunication{}, 3)
	start := time.Now()
	until(t, "three lifetimes of a lease", func() bool { return time.Since(start) > 3*time.Second })
	if _, err := readDisk(t, v, 0); err != nil {
		t.Fatal(err)
	}
	if n := len(sim.Record().Leases); n != 1 {
		t.Errorf("%d leases were taken", n)
	}
}

// TestNeglectedLeaseDies shows that the simulator would notice if nobody renewed.
func TestNeglectedLeaseDies(t *testing.T) {
	t.Parallel()
	data := noise(1, 1<<20)
	sim := oneVM(t, vcentersim.Config{LeaseTimeout: 200 * time.Millisecond}, vcentersim.VM{Name: "vm"}, data)
	sim.FailCalls("HttpNfcLeaseProgress", &types.HostCommunication{}, -1)
	v := openView(t, connect(t, settings(t, sim)), "vm", driver.OpenOptions{})
	until(t, "end of the lease", func() bool { return sim.Record().Leases[0].State == vcentersim.LeaseExpired })
	// A disk opened afterwards comes from a fresh lease.
	if _, err := readDisk(t, v, 0); err != nil {
		t.Error(err)
	}
	if n := len(sim.Record().Leases); n != 2 {
		t.Errorf("%d leases were taken, want 2", n)
	}
}

// TestLostLeaseOfChangedVM refuses to go on with a VM that ran after its lease was lost.
func TestLostLeaseOfChangedVM(t *testing.T) {
	t.Parallel()
	sim := oneVM(t, vcentersim.Config{}, vcentersim.VM{Name: "vm"}, noise(1, 1<<20))
	if err := sim.Inject(vcentersim.Fault{Kind: vcentersim.FaultExpire, VM: "vm", AfterBytes: 1000}); err != nil {
		t.Fatal(err)
	}
	v := openView(t, connect(t, settings(t, sim)), "vm", driver.OpenOptions{})
	if _, err := readDisk(t, v, 0); !fault.Is(err, fault.Aborted) {
		t.Fatalf("a lost lease gives %v, want Aborted", err)
	}
	for _, on := range []bool{true, false} {
		if err := sim.SetPower(t.Context(), "vm", on); err != nil {
			t.Fatal(err)
		}
	}
	_, err := readDisk(t, v, 0)
	if !fault.Is(err, fault.FailedPrecondition) || !strings.Contains(err.Error(), "started and stopped") {
		t.Errorf("a VM that ran in between gives %v, want FailedPrecondition", err)
	}
	if left := leftovers(sim); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
}

// TestLostSnapshot refuses to go on when somebody removed the snapshot.
func TestLostSnapshot(t *testing.T) {
	t.Parallel()
	sim := oneVM(t, vcentersim.Config{}, vcentersim.VM{Name: "vm", PoweredOn: true}, noise(1, 1<<20))
	if err := sim.Inject(vcentersim.Fault{Kind: vcentersim.FaultExpire, VM: "vm", AfterBytes: 1000}); err != nil {
		t.Fatal(err)
	}
	v := openView(t, connect(t, settings(t, sim)), "vm", driver.OpenOptions{})
	if _, err := readDisk(t, v, 0); !fault.Is(err, fault.Aborted) {
		t.Fatalf("a lost lease gives %v, want Aborted", err)
	}
	if err := sim.RemoveSnapshots(t.Context(), "vm"); err != nil {
		t.Fatal(err)
	}
	if _, err := readDisk(t, v, 0); !fault.Is(err, fault.NotFound) {
		t.Errorf("a snapshot that is gone gives %v, want NotFound", err)
	}
	if err := v.Close(t.Context(), false); err != nil {
		t.Errorf("close: %v", err)
	}
}

func TestStalledStream(t *testing.T) {
	t.Parallel()
	sim := oneVM(t, vcentersim.Config{}, vcentersim.VM{Name: "vm"}, noise(1, 1<<20))
	if err := sim.Inject(vcentersim.Fault{Kind: vcentersim.FaultSlow, VM: "vm", BytesPerSecond: 1}); err != nil {
		t.Fatal(err)
	}
	v := openView(t, connect(t, settings(t, sim), vsphere.WithStallTimeout(100*time.Millisecond)), "vm", driver.OpenOptions{})
	_, err := readDisk(t, v, 0)
	if !fault.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "nothing was received") {
		t.Errorf("a stalled stream gives %v", err)
	}
	if _, err := readDisk(t, v, 0); err != nil {
		t.Errorf("the next read: %v", err)
	}
}

// TestCutOfKnownLength cuts a stream that has stated its length.
func TestCutOfKnownLength(t *testing.T) {
	t.Parallel()
	sim := oneVM(t, vcentersim.Config{ContentLength: true}, vcentersim.VM{Name: "vm"}, noise(1, 1<<20))
	v := openView(t, connect(t, settings(t, sim)), "vm", driver.OpenOptions{})
	for _, percent := range []float64{0.01, 50, 99.9999} {
		if err := sim.Inject(vcentersim.Fault{Kind: vcentersim.FaultCut, VM: "vm", AtPercent: percent}); err != nil {
			t.Fatal(err)
		}
		if n, err := readDisk(t, v, 0); !fault.Is(err, fault.Unavailable) {
			t.Errorf("a cut at %v %% gives %v after %d bytes", percent, err, len(n))
		}
	}
	if _, err := readDisk(t, v, 0); err != nil {
		t.Errorf("the next read: %v", err)
	}
}

func TestUnavailableDisk(t *testing.T) {
	t.Parallel()
	sim := oneVM(t, vcentersim.Config{}, vcentersim.VM{Name: "vm"}, noise(1, 1<<20))
	if err := sim.Inject(vcentersim.Fault{Kind: vcentersim.FaultUnavailable, VM: "vm"}); err != nil {
		t.Fatal(err)
	}
	v := openView(t, connect(t, settings(t, sim)), "vm", driver.OpenOptions{})
	_, err := readDisk(t, v, 0)
	if !fault.Is(err, fault.Unavailable) || strings.Contains(err.Error(), "/nfc/") {
		t.Errorf("503 gives %v", err)
	}
	if _, err := readDisk(t, v, 0); err != nil {
		t.Errorf("the next read: %v", err)
	}
}

// TestTruncatedStream has the server end a stream early in good order: only the size in the manifest shows it.
func TestTruncatedStream(t *testing.T) {
	t.Parallel()
	sim := oneVM(t, vcentersim.Config{}, vcentersim.VM{Name: "vm"}, noise(1, 1<<20))
	if err := sim.Inject(vcentersim.Fault{Kind: vcentersim.FaultTruncate, VM: "vm", AtPercent: 50}); err != nil {
		t.Fatal(err)
	}
	v := openView(t, connect(t, settings(t, sim)), "vm", driver.OpenOptions{})
	if _, err := readDisk(t, v, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := v.Verify(t.Context(), v.VM().Disks[0].ID, nil); !fault.Is(err, fault.DataLoss) {
		t.Errorf("verify gives %v, want DataLoss", err)
	}
}

func TestQuiesceFails(t *testing.T) {
	t.Parallel()
	sim := oneVM(t, vcentersim.Config{}, vcentersim.VM{Name: "vm", PoweredOn: true}, noise(1, 1<<20))
	sim.FailCalls("CreateSnapshot_Task", &types.ApplicationQuiesceFault{}, 1)
	_, err := connect(t, settings(t, sim)).Open(t.Context(), "vm", driver.OpenOptions{Quiesce: true})
	if !fault.Is(err, fault.FailedPrecondition) || !strings.Contains(err.Error(), "without quiesce") {
		t.Errorf("error: %v", err)
	}
	if left := leftovers(sim); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
}

// TestCloseCanBeRepeated lets the removal of the snapshot fail once.
func TestCloseCanBeRepeated(t *testing.T) {
	t.Parallel()
	sim := oneVM(t, vcentersim.Config{}, vcentersim.VM{Name: "vm", PoweredOn: true}, noise(1, 1<<20))
	v := openView(t, connect(t, settings(t, sim)), "vm", driver.OpenOptions{})
	sim.FailCalls("RemoveSnapshot_Task", &types.TaskInProgress{}, 1)
	if err := v.Close(t.Context(), true); !fault.Is(err, fault.Unavailable) {
		t.Fatalf("close gives %v, want Unavailable", err)
	}
	if n := len(leftovers(sim)); n != 1 {
		t.Errorf("%d things are left, want the snapshot only", n)
	}
	if err := v.Close(t.Context(), true); err != nil || len(leftovers(sim)) != 0 {
		t.Errorf("second close: %v; left behind: %q", err, leftovers(sim))
	}
}

// TestOnlyOwnSnapshotGoes keeps the snapshots of others, older and younger ones.
func TestOnlyOwnSnapshotGoes(t *testing.T) {
	t.Parallel()
	data := noise(1, 1<<20)
	sim := oneVM(t, vcentersim.Config{}, vcentersim.VM{Name: "vm", PoweredOn: true}, data)
	if err := sim.CreateSnapshot(t.Context(), "vm", "older"); err != nil {
		t.Fatal(err)
	}
	if err := sim.WriteDisk("vm", 0, []byte("newer content"), 70000); err != nil {
		t.Fatal(err)
	}
	copy(data[70000:], "newer content")
	v := openView(t, connect(t, settings(t, sim)), "vm", driver.OpenOptions{SnapshotName: "ours"})
	if err := sim.CreateSnapshot(t.Context(), "vm", "younger"); err != nil {
		t.Fatal(err)
	}
	vmdk, err := readDisk(t, v, 0)
	if err != nil || !bytes.Equal(decodeVMDK(t, vmdk), data) {
		t.Errorf("the content is not that of the time of the snapshot: %v", err)
	}
	if err := v.Close(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range sim.Record().Snapshots {
		names = append(names, s.Name)
	}
	slices.Sort(names)
	if !slices.Equal(names, []string{"older", "younger"}) {
		t.Errorf("snapshots left: %q", names)
	}
}

// TestPathIsCanonical asks for a VM by a path with slashes too many.
func TestPathIsCanonical(t *testing.T) {
	t.Parallel()
	sim := oneVM(t, vcentersim.Config{}, vcentersim.VM{Name: "vm", Folder: "a/b"}, noise(1, 1<<20))
	d := connect(t, settings(t, sim))
	for _, ref := range []string{"/DC0/vm/a/b/vm", "/DC0//vm/a/b/vm/", "a/b/vm"} {
		vm, err := d.GetVM(t.Context(), ref)
		if err != nil || vm.Path != "/DC0/vm/a/b/vm" {
			t.Errorf("%q has path %q: %v", ref, vm.Path, err)
		}
	}
	if _, err := d.GetVM(t.Context(), "/DC0/vm/a"); !fault.Is(err, fault.NotFound) {
		t.Errorf("the path of a folder gives %v, want NotFound", err)
	}
}

// TestResumeOfOtherVM removes the snapshot that a token of another VM names.
func TestResumeOfOtherVM(t *testing.T) {
	t.Parallel()
	sim := oneVM(t, vcentersim.Config{VMs: []vcentersim.VM{{Name: "other", PoweredOn: true, Disks: []vcentersim.Disk{diskOf(noise(2, 1<<20))}}}},
		vcentersim.VM{Name: "vm"}, noise(1, 1<<20))
	d := connect(t, settings(t, sim))
	before := openView(t, d, "other", driver.OpenOptions{})
	if err := before.Detach(t.Context()); err != nil {
		t.Fatal(err)
	}
	v := openView(t, d, "vm", driver.OpenOptions{Resume: before.Token()})
	if v.Resumed() {
		t.Error("the view continues another VM's export")
	}
	if n := len(sim.Record().Snapshots); n != 0 {
		t.Errorf("%d snapshots are left", n)
	}
}

// TestCrashBeforeSnapshotIsKnown resumes with the token that Created got before the snapshot was made.
func TestCrashBeforeSnapshotIsKnown(t *testing.T) {
	t.Parallel()
	sim := oneVM(t, vcentersim.Config{}, vcentersim.VM{Name: "vm", PoweredOn: true}, noise(1, 1<<20))
	d := connect(t, settings(t, sim))
	var tokens [][]byte
	before := openView(t, d, "vm", driver.OpenOptions{Created: func(token []byte) error { tokens = append(tokens, token); return nil }})
	if len(tokens) != 2 {
		t.Fatalf("Created was called %d times, want 2", len(tokens))
	}
	if err := before.Detach(t.Context()); err != nil {
		t.Fatal(err)
	}
	v := openView(t, d, "vm", driver.OpenOptions{Resume: tokens[0]})
	if !v.Resumed() || string(v.Token()) != string(tokens[1]) {
		t.Errorf("the first token leads to %s (resumed: %t)", v.Token(), v.Resumed())
	}
}
