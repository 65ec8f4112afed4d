package vmvolume

import (
	"context"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
	"github.com/hyperplane-project/hyperplane/server/vm"
)

// ChangeVmVolumeInterfaces implements VolumeService. Volumes behind the last interface in the list keep theirs. All change or none.
func (s *Service) ChangeVmVolumeInterfaces(
	ctx context.Context, req *hypervisorv1.ChangeVmVolumeInterfacesRequest,
) (*hypervisorv1.ChangeVmVolumeInterfacesResponse, error) {
	if len(req.GetInterfaces()) == 0 {
		return nil, fault.New(fault.InvalidArgument, "interfaces: is empty")
	}
	for i, v := range req.GetInterfaces() {
		if v.Descriptor().Values().ByNumber(v.Number()) == nil {
			return nil, fault.New(fault.InvalidArgument, "interfaces[%d]: %d is no value of VolumeInterface", i, v)
		}
		if v == hypervisorv1.VolumeInterface_VOLUME_INTERFACE_DFM {
			return nil, fault.New(fault.Unimplemented, "interfaces[%d]: interface dfm is not available on this host", i)
		}
	}
	err := s.change(ctx, req.GetVm(), "change the interfaces of volumes", func(ctx context.Context, record *hypervisorv1.LocalVmInfo) error {
		return s.setInterfaces(ctx, record, req.GetInterfaces())
	})
	if err != nil {
		return nil, err
	}
	return &hypervisorv1.ChangeVmVolumeInterfacesResponse{}, nil
}

func (s *Service) setInterfaces(ctx context.Context, record *hypervisorv1.LocalVmInfo, wish []hypervisorv1.VolumeInterface) error {
	if n := len(record.GetVmInfo().GetVolumes()); len(wish) > n {
		return fault.New(fault.InvalidArgument, "interfaces: has %d for %d volumes", len(wish), n)
	}
	host, err := s.Driver.Host(ctx)
	if err != nil {
		return err
	}
	_, err = s.Operations.Change(ctx, record.GetVmInfo().GetUuid(), func(r *hypervisorv1.LocalVmInfo) error {
		for i, v := range wish {
			r.GetVmInfo().GetVolumes()[i].Interface = v
		}
		return fault.Wrap(checkBoard(r, host), "interfaces")
	})
	return err
}

// checkBoard reports what of a VM's volumes its board cannot have.
func checkBoard(r *hypervisorv1.LocalVmInfo, host hypervisor.Host) error {
	info := r.GetVmInfo()
	spec := hypervisor.Spec{
		Arch: hypervisor.Arch(info.GetArchitectureType()), Machine: hypervisor.MachineType(info.GetMachineType()),
		Firmware: hypervisor.Firmware(info.GetFirmwareType()),
	}
	for i, v := range info.GetVolumes() {
		if _, err := vm.DiskBus(info, v.GetInterface()); err != nil {
			return fault.Wrap(err, "volume %d", i)
		}
		spec.Disks = append(spec.Disks, describe(info, v, r.GetVolumeLocations()[i].GetFilename()))
	}
	if err := host.CheckDisks(spec.Disks); err != nil {
		return err
	}
	return spec.CheckDisks(host.Arch)
}
