package snapshot

import (
	"context"
	"errors"
	"os"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/vm"
)

// RestoreVmFromSnapshot implements SnapshotService. Volumes that the snapshot does not have stay as they are.
func (s *Service) RestoreVmFromSnapshot(
	ctx context.Context, req *hypervisorv1.RestoreVmFromSnapshotRequest,
) (*hypervisorv1.RestoreVmFromSnapshotResponse, error) {
	if err := checkName(req.GetName()); err != nil {
		return nil, err
	}
	err := s.Operations.Finish(ctx, func(ctx context.Context) error {
		record, release, err := s.acquire(ctx, req.GetVm(), "be restored", req.GetForceIfNotStopped())
		if err != nil {
			return err
		}
		defer release()
		volumes, err := having(record, req.GetName())
		if err != nil {
			return err
		}
		err = s.restore(ctx, record, req.GetName(), volumes, req.GetRetain())
		return fault.Wrap(err, "vm %s: restore snapshot %q", vm.Name(record.GetVmInfo()), req.GetName())
	})
	if err != nil {
		return nil, err
	}
	return &hypervisorv1.RestoreVmFromSnapshotResponse{}, nil
}

// restore prepares the new files of all volumes before any takes the old one's place.
func (s *Service) restore(ctx context.Context, record *hypervisorv1.LocalVmInfo, name string, volumes []int, retain bool) (err error) {
	var fresh []string
	defer func() {
		if err != nil {
			err = errors.Join(err, remove(fresh))
		}
	}()
	sizes := make(map[int]uint64)
	for _, i := range volumes {
		volume := record.GetVolumeLocations()[i].GetFilename()
		to := volume + ".restored"
		fresh = append(fresh, to)
		if _, err := s.Files.Duplicate(ctx, vm.SnapshotFile(volume, name), to); err != nil {
			return fault.Wrap(err, "volume %d", i)
		}
		if sizes[i], err = s.Files.Size(ctx, to, record.GetVmInfo().GetVolumes()[i].GetFormat()); err != nil {
			return fault.Wrap(err, "volume %d", i)
		}
	}
	for n, i := range volumes {
		if err := os.Rename(fresh[n], record.GetVolumeLocations()[i].GetFilename()); err != nil {
			return fault.Wrap(err, "volume %d", i)
		}
	}
	_, err = s.Operations.Change(ctx, record.GetVmInfo().GetUuid(), func(r *hypervisorv1.LocalVmInfo) error {
		for i, size := range sizes {
			v := r.GetVmInfo().GetVolumes()[i]
			v.Size, v.VirtualSize = size, size
			if !retain {
				delete(v.GetSnapshots(), name)
			}
		}
		return nil
	})
	if err != nil || retain {
		return err
	}
	return s.removeFiles(record, name, volumes)
}

// DiscardVmSnapshot implements SnapshotService. The VM may be in any state: nothing but the snapshot's own files is touched.
func (s *Service) DiscardVmSnapshot(ctx context.Context, req *hypervisorv1.DiscardVmSnapshotRequest) (*hypervisorv1.DiscardVmSnapshotResponse, error) {
	if err := checkName(req.GetName()); err != nil {
		return nil, err
	}
	record, release, err := s.Operations.Acquire(ctx, req.GetVm())
	if err != nil {
		return nil, err
	}
	defer release()
	volumes, err := having(record, req.GetName())
	if err != nil {
		return nil, err
	}
	// The record first: a file that nobody knows of goes with the VM, a snapshot without its file would be a broken promise.
	_, err = s.Operations.Change(ctx, record.GetVmInfo().GetUuid(), func(r *hypervisorv1.LocalVmInfo) error {
		for _, i := range volumes {
			delete(r.GetVmInfo().GetVolumes()[i].GetSnapshots(), req.GetName())
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &hypervisorv1.DiscardVmSnapshotResponse{}, s.removeFiles(record, req.GetName(), volumes)
}

func (s *Service) removeFiles(record *hypervisorv1.LocalVmInfo, name string, volumes []int) error {
	var files []string
	for _, i := range volumes {
		files = append(files, vm.SnapshotFile(record.GetVolumeLocations()[i].GetFilename(), name))
	}
	return remove(files)
}
