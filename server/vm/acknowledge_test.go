package vm_test

import (
	"strings"
	"testing"
	"time"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/vm"
)

const acknowledgeTime = 15 * time.Second

func (f *fixture) acknowledge(id string) error {
	_, err := f.AcknowledgeVm(f.t.Context(), &hypervisorv1.AcknowledgeVmRequest{Vm: id})
	return err
}

func TestAcknowledgement(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	arm := func(id string) string { f.ArmAcknowledgement(t.Context(), id, acknowledgeTime); return id }
	kept, lost, again := arm(f.vm(true, nil)), arm(f.vm(true, nil)), arm(f.vm(false, nil))
	protected := arm(f.vm(true, func(i *hypervisorv1.VmInfo) { i.DestroyProtection = true }))
	plain, gone := f.vm(false, nil), arm(f.vm(false, nil))
	f.must(f.acknowledge(plain)) // never waited for
	_, err := f.DestroyVm(t.Context(), &hypervisorv1.DestroyVmRequest{Vm: gone})
	f.must(err)

	f.clock.Advance(acknowledgeTime - 1)
	f.must(f.acknowledge(kept))
	f.must(f.acknowledge(kept))
	arm(again)
	f.clock.Advance(1)
	f.Close()
	for id, want := range map[string]bool{kept: true, lost: false, again: true, protected: true, plain: true} {
		if _, err := f.registry.Info(id); (err == nil) != want {
			t.Errorf("VM %s: %v, expected to be there: %v", id, err, want)
		}
	}
	f.expect("unknown", f.acknowledge(lost), fault.NotFound)
	f.must(f.acknowledge(protected))
	f.clock.Advance(time.Hour) // the service is closed: nothing is destroyed any more
	f.info(again)
	arm(plain)
	f.clock.Advance(time.Hour)
	f.info(plain)
}

func TestAcknowledgementThatIsTooLate(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	id := f.vm(true, nil)
	release := f.host.Hold("Kill")
	f.ArmAcknowledgement(t.Context(), id, acknowledgeTime)
	f.clock.Advance(acknowledgeTime)
	f.expect("late", f.acknowledge(id), fault.FailedPrecondition)
	f.ArmAcknowledgement(t.Context(), id, acknowledgeTime)
	f.expect("still late", f.acknowledge(id), fault.FailedPrecondition)
	release()
	f.Close()
	f.expect("gone", f.acknowledge(id), fault.NotFound)
}

func TestLockHasADeadline(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(d *vm.Deps) { d.LockPatience = time.Millisecond })
	id := f.vm(false, func(i *hypervisorv1.VmInfo) { i.Hostname = "web" })
	_, release, err := f.Acquire(vm.During(t.Context(), "SnapshotVm"), id)
	f.must(err)
	f.clock.Advance(42 * time.Second)
	_, err = f.StartVm(t.Context(), &hypervisorv1.StartVmRequest{Vm: id})
	f.expect("held", err, fault.Aborted)
	if err == nil || !strings.Contains(err.Error(), "vm web: mutations blocked: SnapshotVm has held it for 42s") {
		t.Errorf("text: %v", err)
	}
	release()
	_, err = f.StartVm(t.Context(), &hypervisorv1.StartVmRequest{Vm: id})
	f.must(err)
}

func TestCreateRequestIsKept(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	spec := &hypervisorv1.CreateVmSpec{
		VmInfo: &hypervisorv1.VmInfo{Hostname: "web", MemoryInMib: 64, MilliCpus: 500, SubnetId: "a"}, MinimumFreeBytes: 4096, DoNotStart: true,
	}
	made, err := f.CreateVmAsync(f.as(false), &hypervisorv1.CreateVmAsyncRequest{Spec: spec})
	f.must(err)
	f.Close() // waits for the creation
	get := func(id string) (*hypervisorv1.CreateVmSpec, error) {
		res, err := f.GetVmCreateRequest(t.Context(), &hypervisorv1.GetVmCreateRequestRequest{Vm: id})
		return res.GetCreateVmRequest(), err
	}
	got, err := get(made.GetVmInfo().GetUuid())
	f.must(err)
	if got.GetMinimumFreeBytes() != 4096 || got.GetVmInfo().GetHostname() != "web" || got.GetVmInfo().GetUuid() != "" {
		t.Errorf("request: %v", got)
	}
	_, err = get(f.vm(false, nil))
	f.expect("import", err, fault.NotFound)
	_, err = get("nobody")
	f.expect("unknown", err, fault.NotFound)
}

func TestNegativePriorityAtCreation(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	spec := &hypervisorv1.CreateVmSpec{
		VmInfo: &hypervisorv1.VmInfo{MemoryInMib: 64, MilliCpus: 500, SubnetId: "a", CpuPriority: -1}, MinimumFreeBytes: 4096, DoNotStart: true,
	}
	_, err := f.CreateVmAsync(f.as(false), &hypervisorv1.CreateVmAsyncRequest{Spec: spec})
	f.expect("without power", err, fault.PermissionDenied)
	_, err = f.CreateVmAsync(f.as(true), &hypervisorv1.CreateVmAsyncRequest{Spec: spec})
	f.must(err)
}
