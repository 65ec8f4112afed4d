package vsphere

import (
	"context"
	"strings"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/providers/driver"
)

// machine is a VM with all that an export needs to know.
type machine struct {
	ref      types.ManagedObjectReference
	vm       driver.VM
	config   types.VirtualMachineConfigInfo
	networks map[string]string // names by managed object id
	snapshot *types.VirtualMachineSnapshotInfo
}

// machine reads a VM that is known to be at the given path.
func (c *conn) machine(ctx context.Context, ref types.ManagedObjectReference, where string) (*machine, error) {
	r, err := c.one(ctx, ref, append(vmProps(), "config", "runtime.connectionState", "network", "snapshot")...)
	if err != nil {
		return nil, classify(err, "vm %q", where)
	}
	cfg, ok := r.props["config"].(types.VirtualMachineConfigInfo)
	state := prop[types.VirtualMachineConnectionState](r, "runtime.connectionState")
	if !ok {
		return nil, fault.New(fault.FailedPrecondition, "vm %q: the platform cannot read its configuration (connection state %s); repair it there first", where, state)
	}
	m := &machine{ref: ref, vm: summarize(r), config: cfg}
	m.vm.Path = where
	if s, ok := r.props["snapshot"].(types.VirtualMachineSnapshotInfo); ok {
		m.snapshot = &s
	}
	refs := prop[types.ArrayOfManagedObjectReference](r, "network")
	if m.networks, err = c.names(ctx, refs.ManagedObjectReference); err != nil {
		return nil, classify(err, "vm %q: networks", where)
	}
	m.describe(cfg)
	if state != "" && state != types.VirtualMachineConnectionStateConnected {
		m.vm.Blockers = append(m.vm.Blockers, "the platform has lost the VM: its connection state is "+string(state))
	}
	return m, nil
}

// names returns the names of objects by id, with one retrieval.
func (c *conn) names(ctx context.Context, refs []types.ManagedObjectReference) (map[string]string, error) {
	names := make(map[string]string, len(refs))
	if len(refs) == 0 {
		return names, nil
	}
	spec := types.PropertyFilterSpec{
		PropSet:                       []types.PropertySpec{{Type: "ManagedEntity", PathSet: []string{"name"}}},
		ReportMissingObjectsInResults: new(true),
	}
	for _, r := range refs {
		spec.ObjectSet = append(spec.ObjectSet, types.ObjectSpec{Obj: r})
	}
	return names, c.retrieve(ctx, spec, func(r record) { names[r.ref.Value] = plainName(prop[string](r, "name")) })
}

// describe fills what comes from the device list: of the VM as it is, or as a snapshot has frozen it.
func (m *machine) describe(cfg types.VirtualMachineConfigInfo) {
	devices := newDevices(cfg)
	m.vm.Disks = devices.disks()
	m.vm.NICs = devices.nics(m.networks)
	m.vm.Blockers = devices.blockers(m.vm.Power)
}

func powerState(s types.VirtualMachinePowerState) driver.PowerState {
	switch s {
	case types.VirtualMachinePowerStatePoweredOff:
		return driver.PowerOff
	case types.VirtualMachinePowerStatePoweredOn:
		return driver.PowerOn
	case types.VirtualMachinePowerStateSuspended:
		return driver.PowerSuspended
	default:
		return driver.PowerUnknown
	}
}

func firmware(s string) driver.Firmware {
	switch types.GuestOsDescriptorFirmwareType(strings.ToLower(s)) {
	case types.GuestOsDescriptorFirmwareTypeBios:
		return driver.FirmwareBIOS
	case types.GuestOsDescriptorFirmwareTypeEfi:
		return driver.FirmwareUEFI
	default:
		return driver.FirmwareUnknown
	}
}
