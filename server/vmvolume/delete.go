package vmvolume

import (
	"context"
	"errors"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/vm"
)

// DeleteVmVolume implements VolumeService. The guest of a VM that runs must let the volume go first; if it does not, nothing changes.
func (s *Service) DeleteVmVolume(ctx context.Context, req *hypervisorv1.DeleteVmVolumeRequest) (*hypervisorv1.DeleteVmVolumeResponse, error) {
	i := req.GetVolumeIndex()
	if i == 0 {
		return nil, fault.New(fault.InvalidArgument, "volume_index: 0 is the root volume, which cannot be deleted; destroy the VM instead")
	}
	err := s.change(ctx, req.GetVm(), "delete a volume", func(ctx context.Context, record *hypervisorv1.LocalVmInfo) error {
		if err := index(record, i); err != nil {
			return err
		}
		return fault.Wrap(s.delete(ctx, record, i), "volume %d", i)
	}, running)
	if err != nil {
		return nil, err
	}
	return &hypervisorv1.DeleteVmVolumeResponse{}, nil
}

func (s *Service) delete(ctx context.Context, record *hypervisorv1.LocalVmInfo, i uint32) error {
	info, file := record.GetVmInfo(), record.GetVolumeLocations()[i].GetFilename()
	if runs(record) {
		if err := s.Driver.DetachDisk(ctx, info.GetUuid(), file); err != nil {
			return err
		}
	}
	// The record first: a file that nobody knows of goes with the VM, a volume without its file would keep the VM from starting.
	_, err := s.Operations.Change(ctx, info.GetUuid(), func(r *hypervisorv1.LocalVmInfo) error {
		r.VmInfo.Volumes = append(r.GetVmInfo().GetVolumes()[:i:i], r.GetVmInfo().GetVolumes()[i+1:]...)
		r.VolumeLocations = append(r.GetVolumeLocations()[:i:i], r.GetVolumeLocations()[i+1:]...)
		return nil
	})
	if err != nil && runs(record) {
		err = errors.Join(err, s.Driver.AttachDisk(ctx, info.GetUuid(), describe(info, info.GetVolumes()[i], file)))
	}
	if err != nil {
		return err
	}
	files := []string{file}
	for name := range info.GetVolumes()[i].GetSnapshots() {
		files = append(files, vm.SnapshotFile(file, name))
	}
	return remove(files...)
}
