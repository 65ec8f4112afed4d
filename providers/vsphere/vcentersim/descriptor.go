package vcentersim

import (
	"strings"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/hyperplane-project/hyperplane/providers/driver"
	"github.com/hyperplane-project/hyperplane/providers/ovf"
)

// ovfObject adds the making of descriptors, which clients such as govc ask for after they have read the disks.
type ovfObject struct {
	*simulator.OvfManager
	sim *Simulator
}

// CreateDescriptor describes a VM with the files that the client says it has.
func (o *ovfObject) CreateDescriptor(ctx *simulator.Context, req *types.CreateDescriptor) soap.HasFault {
	body := new(methods.CreateDescriptorBody)
	o.sim.mu.Lock()
	m := o.sim.machines[req.Obj]
	o.sim.mu.Unlock()
	vm, ok := ctx.Map.Get(req.Obj).(*simulator.VirtualMachine)
	if m == nil || !ok {
		body.Fault_ = simulator.Fault("", &types.ManagedObjectNotFound{Obj: req.Obj})
		return body
	}
	var described driver.VM
	ctx.WithLock(vm, func() { described = describe(vm, m) })
	files := make([]ovf.File, 0, len(req.Cdp.OvfFiles))
	for _, f := range req.Cdp.OvfFiles {
		files = append(files, ovf.File{DiskID: f.DeviceId, Name: ovf.SafeName(f.Path), Size: f.Size, Format: ovf.FormatStreamVMDK})
	}
	var text strings.Builder
	if err := ovf.Write(&text, described, files); err != nil {
		body.Fault_ = simulator.Fault(err.Error(), &types.InvalidArgument{InvalidProperty: "cdp"})
		return body
	}
	body.Res = &types.CreateDescriptorResponse{Returnval: types.OvfCreateDescriptorResult{OvfDescriptor: text.String()}}
	return body
}

// describe tells of a VM what a descriptor needs; its disks go by the keys under which leases give them.
func describe(vm *simulator.VirtualMachine, m *machine) driver.VM {
	out := driver.VM{
		ID: m.ref.Value, Name: vm.Name, CPUs: uint32(vm.Config.Hardware.NumCPU), MemoryBytes: uint64(vm.Config.Hardware.MemoryMB) << 20,
		GuestOS: vm.Config.GuestId, Firmware: driver.FirmwareBIOS,
	}
	if vm.Config.Firmware == "efi" {
		out.Firmware = driver.FirmwareUEFI
	}
	devices := object.VirtualDeviceList(vm.Config.Hardware.Device)
	for _, d := range m.disks {
		v := devices.FindByKey(d.key).(*types.VirtualDisk)
		c := devices.FindByKey(v.ControllerKey).(types.BaseVirtualController).GetVirtualController()
		out.Disks = append(out.Disks, driver.DiskInfo{
			ID: "/" + m.ref.Value + "/" + d.slot, Label: devices.Name(v), Capacity: d.content.base.Info().VirtualSize,
			Bus: "scsi", Controller: int(c.BusNumber), Unit: int(*v.UnitNumber),
		})
	}
	return out
}
