package vm_test

import (
	"testing"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

func (f *fixture) resize(id string, memory uint64, milli, cpus uint32) error {
	_, err := f.ChangeVmSize(f.t.Context(), &hypervisorv1.ChangeVmSizeRequest{Vm: id, MemoryInMib: memory, MilliCpus: milli, VirtualCpus: cpus})
	return err
}

func large(i *hypervisorv1.VmInfo) { i.MemoryInMib, i.VirtualCpus = 8<<10, 2 }

func TestSizeOfALiveVM(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	id := f.vm(true, large)
	f.must(f.resize(id, 9<<10, 2500, 4))
	if m := f.machine(id); m.CPUs != 4 || m.CPUMillis != 2500 || m.MemoryBytes != 9<<30 {
		t.Errorf("machine: %+v", m.Resources())
	}
	if i := f.info(id); i.GetVirtualCpus() != 4 || i.GetMilliCpus() != 2500 || i.GetMemoryInMib() != 9<<10 || i.GetState() != hypervisorv1.State_STATE_RUNNING {
		t.Errorf("info: %v", i)
	}
	f.must(f.resize(id, 0, 100, 0)) // a share can shrink
	for what, do := range map[string]func() error{
		"less memory":          func() error { return f.resize(id, 8<<10, 0, 0) },
		"fewer processors":     func() error { return f.resize(id, 10<<10, 0, 3) },
		"too many processors":  func() error { return f.resize(id, 0, 0, 9) },
		"too much memory":      func() error { return f.resize(id, 33<<10, 0, 0) },
		"an odd lot of memory": func() error { return f.resize(id, 9<<10+1, 0, 5) },
	} {
		f.unchanged(id, what, do, fault.FailedPrecondition)
	}
	f.unchanged(id, "the host has too little", func() error {
		return f.resize(f.vm(true, func(i *hypervisorv1.VmInfo) { i.MemoryInMib = 50 << 10 }), 60<<10, 0, 0)
	},
		fault.ResourceExhausted)
	f.host.FailNext("Adjust", fault.New(fault.Internal, "QEMU is ill"))
	f.unchanged(id, "Adjust fails", func() error { return f.resize(id, 10<<10, 900, 5) }, fault.Internal)
	f.store.broken.Store(true)
	f.unchanged(id, "full disk", func() error { return f.resize(id, 0, 0, 5) }, fault.ResourceExhausted)
	f.store.broken.Store(false)

	_, err := f.StopVm(t.Context(), &hypervisorv1.StopVmRequest{Vm: id})
	f.must(err)
	f.must(f.resize(id, 64, 0, 1))
	if m := f.machine(id); m.CPUs != 1 || m.MaxCPUs != 1 || m.MemoryBytes != 64<<20 || m.MaxMemoryBytes != 64<<20 {
		t.Errorf("a small machine has room: %+v", m)
	}
	f.unchanged(id, "less than the least", func() error { return f.resize(id, 1, 0, 0) }, fault.InvalidArgument)
}

func TestSizeOfACrashedVM(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	id := f.vm(false, nil)
	f.must(f.resize(id, 0, 400, 0)) // defines it
	_, err := f.registry.Change(t.Context(), id, func(r *hypervisorv1.LocalVmInfo) error {
		r.VmInfo.State = hypervisorv1.State_STATE_CRASHED
		return nil
	})
	f.must(err)
	f.must(f.resize(id, 0, 300, 0))
	if f.info(id).GetMilliCpus() != 300 {
		t.Errorf("info: %v", f.info(id))
	}
	f.unchanged(id, "more processors", func() error { return f.resize(id, 0, 0, 2) }, fault.FailedPrecondition)
}

func TestCPUPriority(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	set := func(id string, power bool, p int32) error {
		_, err := f.ChangeVmCpuPriority(f.as(power), &hypervisorv1.ChangeVmCpuPriorityRequest{Vm: id, CpuPriority: p})
		return err
	}
	running, stopped := f.vm(true, func(i *hypervisorv1.VmInfo) { i.CpuPriority = -3 }), f.vm(false, nil)
	if got := f.machine(running).CPUPriority; got != -3 {
		t.Errorf("created with %d", got)
	}
	f.must(set(running, false, 7))
	if got, kept := f.machine(running).CPUPriority, f.info(running).GetCpuPriority(); got != 7 || kept != 7 {
		t.Errorf("priority %d, kept %d", got, kept)
	}
	f.expect("negative", set(running, false, -1), fault.PermissionDenied)
	f.expect("too low", set(running, true, -21), fault.InvalidArgument)
	f.expect("too high", set(running, true, 20), fault.InvalidArgument)
	f.must(set(running, true, -20))
	f.host.FailNext("Adjust", fault.New(fault.Internal, "no"))
	f.unchanged(running, "Adjust fails", func() error { return set(running, true, 0) }, fault.Internal)

	f.must(set(stopped, false, 5))
	_, err := f.StartVm(t.Context(), &hypervisorv1.StartVmRequest{Vm: stopped})
	f.must(err)
	if got := f.machine(stopped).CPUPriority; got != 5 {
		t.Errorf("started with %d", got)
	}
	_, err = f.registry.Change(t.Context(), stopped, func(r *hypervisorv1.LocalVmInfo) error {
		r.VmInfo.State = hypervisorv1.State_STATE_STOPPING
		return nil
	})
	f.must(err)
	f.expect("stopping", set(stopped, true, 0), fault.FailedPrecondition)
}
