package vm_test

import (
	"testing"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
	"github.com/hyperplane-project/hyperplane/server/hypervisor/fake"
	"github.com/hyperplane-project/hyperplane/server/vm"
)

// TestInterfacesAtCreation asks for interfaces that the host has, and that it does not have.
func TestInterfacesAtCreation(t *testing.T) {
	t.Parallel()
	const nvme, dfm = hypervisorv1.VolumeInterface_VOLUME_INTERFACE_NVME, hypervisorv1.VolumeInterface_VOLUME_INTERFACE_DFM
	f := newFixture(t, nil)
	with := func(v hypervisorv1.VolumeInterface) *hypervisorv1.CreateVmAsyncRequest {
		return &hypervisorv1.CreateVmAsyncRequest{Spec: &hypervisorv1.CreateVmSpec{
			VmInfo:           &hypervisorv1.VmInfo{MemoryInMib: 64, MilliCpus: 500, SubnetId: "a"},
			MinimumFreeBytes: 4096, SecondaryVolumes: []*hypervisorv1.Volume{{Size: 4096, Interface: v}}, DoNotStart: true,
		}}
	}
	id := f.vm(true, func(info *hypervisorv1.VmInfo) { info.Volumes[0].Interface = nvme })
	if bus := f.machine(id).Disks[0].Bus; bus != hypervisor.BusNVMe {
		t.Errorf("bus %v", bus)
	}
	_, err := f.CreateVmAsync(f.as(true), with(dfm))
	f.expect("DFM", err, fault.Unimplemented)

	_, old := fake.New(fake.Options{NoNVMe: "a newer version"})
	t.Cleanup(func() { _ = old.Close() })
	lacking := newFixture(t, func(d *vm.Deps) { d.Driver = old })
	_, err = lacking.CreateVmAsync(lacking.as(true), with(nvme))
	f.expect("NVMe", err, fault.Unimplemented)
	if all := lacking.registry.List(); len(all) > 0 {
		t.Errorf("left: %v", all)
	}
}
