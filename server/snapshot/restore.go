package snapshot

import (
	"context"
	"errors"

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

// restore prepares the new files of all volumes before any takes the old one's place. A VM that runs is halted only for that, and started again.
func (s *Service) restore(ctx context.Context, record *hypervisorv1.LocalVmInfo, name string, volumes []int, retain bool) (err error) {
	uuid := record.GetVmInfo().GetUuid()
	j := journal{Snapshot: name, Retain: retain}
	defer func() {
		if err != nil && !j.begun {
			err = errors.Join(err, j.discard())
		}
	}()
	for _, i := range volumes {
		file := record.GetVolumeLocations()[i].GetFilename()
		j.Volumes = append(j.Volumes, restored{File: file})
		v := &j.Volumes[len(j.Volumes)-1]
		if _, err := s.Files.Duplicate(ctx, vm.SnapshotFile(file, name), v.fresh()); err != nil {
			return fault.Wrap(err, "volume %d", i)
		}
		if v.Size, err = s.Files.Size(ctx, v.fresh(), record.GetVmInfo().GetVolumes()[i].GetFormat()); err != nil {
			return fault.Wrap(err, "volume %d", i)
		}
	}
	if !runs(record) {
		return s.replace(ctx, uuid, &j)
	}
	if err := s.Operations.Halt(ctx, uuid); err != nil {
		return err
	}
	err = s.replace(ctx, uuid, &j)
	if err != nil && j.begun {
		return err // it would run with volumes that do not belong together
	}
	_, startErr := s.Operations.Resume(ctx, uuid, 0)
	return errors.Join(err, fault.Wrap(startErr, "start it again"))
}

// replace puts the new files in the old ones' places: all of them, if need be after the next start of the host.
func (s *Service) replace(ctx context.Context, uuid string, j *journal) error {
	dir, err := s.Operations.Directory(uuid)
	if err != nil {
		return err
	}
	if err := j.write(dir); err != nil {
		return err
	}
	return s.complete(ctx, uuid, dir, j)
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
