package vsphere_test

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/providers/driver"
	"github.com/hyperplane-project/hyperplane/providers/vsphere"
	"github.com/hyperplane-project/hyperplane/providers/vsphere/vcentersim"
)

// oneVM starts a vCenter with one VM.
func oneVM(t *testing.T, cfg vcentersim.Config, vm vcentersim.VM, disks ...[]byte) *vcentersim.Simulator {
	t.Helper()
	for _, d := range disks {
		vm.Disks = append(vm.Disks, diskOf(d))
	}
	cfg.VMs = append(cfg.VMs, vm)
	return startSim(t, cfg)
}

// until waits for something that happens by itself.
func until(t *testing.T, what string, happened func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !happened() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

func TestListCostsOneRetrieval(t *testing.T) {
	t.Parallel()
	var cfg vcentersim.Config
	for i := range 7 {
		cfg.VMs = append(cfg.VMs, vcentersim.VM{Name: fmt.Sprintf("vm%d", i), Folder: "deep/er"})
	}
	sim := startSim(t, cfg)
	count := func(opts ...vsphere.Option) (first, more int) {
		d := connect(t, settings(t, sim), opts...)
		before := sim.Record().Calls
		vms, err := d.ListVMs(t.Context(), "/DC0/vm/deep/er/*")
		if err != nil || len(vms) != 7 {
			t.Fatalf("%d VMs are listed: %v", len(vms), err)
		}
		after := sim.Record().Calls
		return after["RetrievePropertiesEx"] - before["RetrievePropertiesEx"], after["ContinueRetrievePropertiesEx"] - before["ContinueRetrievePropertiesEx"]
	}
	if first, more := count(); first != 1 || more != 0 {
		t.Errorf("listing took %d retrievals and %d further pages, want one and none", first, more)
	}
	if first, more := count(vsphere.WithPageSize(4)); first != 1 || more < 2 {
		t.Errorf("listing by pages of four took %d retrievals and %d further pages", first, more)
	}
}

func TestSessionIsRenewed(t *testing.T) {
	t.Parallel()
	data := noise(1, 1<<20)
	sim := oneVM(t, vcentersim.Config{LeaseTimeout: time.Second}, vcentersim.VM{Name: "vm"}, data)
	d := connect(t, settings(t, sim))
	v := openView(t, d, "vm", driver.OpenOptions{})
	if err := sim.EndSessions(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := d.ListVMs(t.Context(), ""); err != nil {
		t.Fatalf("after the session had ended: %v", err)
	}
	// The lease cannot be renewed any more, but reading goes on as long as it lives, and from a fresh one afterwards.
	c, err := v.OpenDisk(t.Context(), v.VM().Disks[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	got, err := decode(t, c)
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes were read that differ: %v", len(got), err)
	}
	_ = c.Stream.Close()
	if err := v.Close(t.Context(), true); err != nil {
		t.Error(err)
	}
	until(t, "end of the lease that belonged to the old session", func() bool { return len(leftovers(sim)) == 0 })
}

// TestResumeWaitsForDeadLease resumes a powered-off VM that the lease of a dead process still locks.
func TestResumeWaitsForDeadLease(t *testing.T) {
	t.Parallel()
	sim := oneVM(t, vcentersim.Config{LeaseTimeout: 2 * time.Second}, vcentersim.VM{Name: "vm"}, noise(1, 1<<20))
	dead := openView(t, connect(t, settings(t, sim)), "vm", driver.OpenOptions{})
	if err := sim.EndSessions(t.Context()); err != nil {
		t.Fatal(err)
	}
	d := connect(t, settings(t, sim))
	_, err := d.Open(t.Context(), "vm", driver.OpenOptions{})
	if !fault.Is(err, fault.Unavailable) {
		t.Errorf("a locked VM gives %v, want Unavailable", err)
	}
	v := openView(t, d, "vm", driver.OpenOptions{Resume: dead.Token()})
	if !v.Resumed() {
		t.Error("the VM is unchanged, but the view does not continue")
	}
}

func TestKeepAlive(t *testing.T) {
	t.Parallel()
	sim := startSim(t, vcentersim.Config{})
	connect(t, settings(t, sim), vsphere.WithKeepAlive(20*time.Millisecond))
	until(t, "three calls that keep the session alive", func() bool { return sim.Record().Calls["CurrentTime"] >= 3 })
}

func TestSessionOutlivesDriverForViews(t *testing.T) {
	t.Parallel()
	sim := oneVM(t, vcentersim.Config{}, vcentersim.VM{Name: "vm", PoweredOn: true}, noise(1, 1<<20))
	d := connect(t, settings(t, sim))
	v := openView(t, d, "vm", driver.OpenOptions{})
	for range 2 {
		if err := d.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := sim.Record().Calls["Logout"]; n != 0 {
		t.Errorf("%d logouts while a view is open", n)
	}
	if err := v.Close(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if n := sim.Record().Calls["Logout"]; n != 1 || len(leftovers(sim)) != 0 {
		t.Errorf("%d logouts; left behind: %q", n, leftovers(sim))
	}
}

func TestParallelLimit(t *testing.T) {
	t.Parallel()
	sim := oneVM(t, vcentersim.Config{}, vcentersim.VM{Name: "vm"}, noise(1, 1<<20), noise(2, 1<<20))
	s := settings(t, sim)
	s.Parallel = 1
	v := openView(t, connect(t, s), "vm", driver.OpenOptions{})
	first, err := v.OpenDisk(t.Context(), v.VM().Disks[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := v.OpenDisk(short, v.VM().Disks[1].ID); !fault.Is(err, fault.DeadlineExceeded) {
		t.Fatalf("a second disk at the same time gives %v, want DeadlineExceeded", err)
	}
	if err := first.Stream.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := readDisk(t, v, 1); err != nil {
		t.Errorf("after the first was closed: %v", err)
	}
}

func TestPermissionDenied(t *testing.T) {
	t.Parallel()
	sim := oneVM(t, vcentersim.Config{}, vcentersim.VM{Name: "vm", PoweredOn: true}, noise(1, 1<<20))
	sim.FailCalls("CreateSnapshot_Task", &types.NoPermission{PrivilegeId: "VirtualMachine.State.CreateSnapshot"}, 1)
	_, err := connect(t, settings(t, sim)).Open(t.Context(), "vm", driver.OpenOptions{})
	if !fault.Is(err, fault.PermissionDenied) || !bytes.Contains([]byte(err.Error()), []byte("VirtualMachine.State.CreateSnapshot")) {
		t.Errorf("error: %v", err)
	}
}
