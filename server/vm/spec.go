package vm

import (
	"context"
	"errors"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/enumtext"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// spec translates a VM into the wish for a machine, and makes its subnets ready.
func (s *Service) spec(ctx context.Context, record *hypervisorv1.LocalVmInfo) (hypervisor.Spec, error) {
	info := record.GetVmInfo()
	host, err := s.Driver.Host(ctx)
	if err != nil {
		return hypervisor.Spec{}, err
	}
	spec := hypervisor.Spec{
		UUID: info.GetUuid(), Name: machineName(info),
		Arch:     hypervisor.Arch(info.GetArchitectureType()),
		Machine:  hypervisor.MachineType(info.GetMachineType()),
		Firmware: hypervisor.Firmware(info.GetFirmwareType()),
		Console:  hypervisor.Console(info.GetConsoleType()),
	}
	spec = room(spec.With(resources(info)), host)
	if info.GetWatchdogModel() != hypervisorv1.WatchdogModel_WATCHDOG_MODEL_UNSPECIFIED {
		spec.Watchdog = hypervisor.Watchdog{Model: enumtext.Of(info.GetWatchdogModel()), Action: watchdogAction(info.GetWatchdogAction())}
	}
	for i, v := range info.GetVolumes() {
		d, err := disk(info, v, record.GetVolumeLocations(), i)
		if err != nil {
			return spec, err
		}
		spec.Disks = append(spec.Disks, d)
	}
	if s.UserData != nil {
		seed, err := s.UserData.Seed(ctx, info)
		if err != nil {
			return spec, fault.Wrap(err, "user data")
		}
		if seed != "" {
			spec.Disks = append(spec.Disks, seedDisk(seed, info))
		}
	}
	for i, a := range append([]*hypervisorv1.Address{info.GetAddress()}, info.GetSecondaryAddresses()...) {
		subnet := info.GetSubnetId()
		if i > 0 {
			subnet = info.GetSecondarySubnetIds()[i-1]
		}
		nic, err := s.Network.Attach(ctx, subnet)
		if err != nil {
			return spec, err
		}
		nic.MAC = a.GetMacAddress()
		if info.GetDisableVirtio() {
			nic.Model = "e1000"
		}
		if i < len(info.GetNetworkEntries()) {
			nic.Queues = info.GetNetworkEntries()[i].GetNumQueues()
		}
		spec.NICs = append(spec.NICs, nic)
	}
	return spec, nil
}

// seedDisk is how a guest sees the disk with its user data: one that the kernels of cloud images have drivers for, which is not so for SATA, and that does not
// take a letter from the volumes.
func seedDisk(file string, info *hypervisorv1.VmInfo) hypervisor.Disk {
	if info.GetDisableVirtio() {
		return hypervisor.Disk{File: file, ReadOnly: true, CDROM: true}
	}
	return hypervisor.Disk{File: file, ReadOnly: true, Bus: hypervisor.BusSCSI}
}

func disk(info *hypervisorv1.VmInfo, v *hypervisorv1.Volume, places []*hypervisorv1.LocalVolume, i int) (hypervisor.Disk, error) {
	if i >= len(places) {
		return hypervisor.Disk{}, fault.New(fault.Internal, "vm %s: volume %d has no file", name(info), i)
	}
	bus, err := DiskBus(info, v.GetInterface())
	return hypervisor.Disk{File: places[i].GetFilename(), Format: diskFormat(v.GetFormat()), Bus: bus}, fault.Wrap(err, "vm %s: volume %d", name(info), i)
}

// DiskBus is the bus on which a VM has volumes with an interface: Unimplemented for those that no VM can have.
func DiskBus(info *hypervisorv1.VmInfo, v hypervisorv1.VolumeInterface) (hypervisor.DiskBus, error) {
	switch v {
	case hypervisorv1.VolumeInterface_VOLUME_INTERFACE_IDE:
		return busIDE(info), nil
	case hypervisorv1.VolumeInterface_VOLUME_INTERFACE_NVME:
		return hypervisor.BusNVMe, nil
	case hypervisorv1.VolumeInterface_VOLUME_INTERFACE_DFM:
		return 0, fault.New(fault.Unimplemented, "interface dfm is not available on this host")
	default:
		if info.GetDisableVirtio() {
			return busIDE(info), nil
		}
		return hypervisor.BusVirtio, nil
	}
}

// busIDE is where a board has IDE disks: that of type q35 has a SATA controller for them, as QEMU has it too.
func busIDE(info *hypervisorv1.VmInfo) hypervisor.DiskBus {
	if info.GetMachineType() == hypervisorv1.MachineType_MACHINE_TYPE_Q35 {
		return hypervisor.BusSATA
	}
	return hypervisor.BusIDE
}

func diskFormat(f hypervisorv1.VolumeFormat) hypervisor.DiskFormat {
	if f == hypervisorv1.VolumeFormat_VOLUME_FORMAT_QCOW2 {
		return hypervisor.DiskQCOW2
	}
	return hypervisor.DiskRaw
}

// machineName is the name of the machine at the virtualiser: readable, and unique because it ends in the UUID's first part.
func machineName(info *hypervisorv1.VmInfo) string {
	if info.GetHostname() == "" {
		return info.GetUuid()
	}
	return info.GetHostname() + "-" + info.GetUuid()[:8]
}

// virtualCPUs is the number of virtual processors: as wished, or enough for the share of processor time.
func virtualCPUs(info *hypervisorv1.VmInfo) uint32 {
	if info.GetVirtualCpus() > 0 {
		return info.GetVirtualCpus()
	}
	return max(1, (info.GetMilliCpus()+999)/1000)
}

func watchdogAction(a hypervisorv1.WatchdogAction) string {
	if a == hypervisorv1.WatchdogAction_WATCHDOG_ACTION_UNSPECIFIED {
		return "none"
	}
	return enumtext.Of(a)
}

func errJoin(errs ...error) error {
	var first error
	for _, err := range errs {
		switch {
		case err == nil:
		case first == nil:
			first = err
		default:
			return errors.Join(errs...)
		}
	}
	return first
}
