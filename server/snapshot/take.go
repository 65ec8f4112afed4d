package snapshot

import (
	"context"
	"errors"
	"os"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/vm"
)

// SnapshotVm implements SnapshotService.
func (s *Service) SnapshotVm(ctx context.Context, req *hypervisorv1.SnapshotVmRequest) (*hypervisorv1.SnapshotVmResponse, error) {
	if err := checkName(req.GetName()); err != nil {
		return nil, err
	}
	err := s.Operations.Finish(ctx, func(ctx context.Context) error {
		record, release, err := s.acquire(ctx, req.GetVm(), "be snapshot", req.GetForceIfNotStopped())
		if err != nil {
			return err
		}
		defer release()
		t := taking{s: s, record: record, name: req.GetName(), sizes: make(map[int]uint64)}
		return fault.Wrap(t.run(ctx, req.GetRootOnly()), "vm %s: snapshot %q", vm.Name(record.GetVmInfo()), req.GetName())
	})
	if err != nil {
		return nil, err
	}
	return &hypervisorv1.SnapshotVmResponse{}, nil
}

// taking is the making of one snapshot.
type taking struct {
	s      *Service
	record *hypervisorv1.LocalVmInfo
	name   string
	fresh  []string       // files that do not have their name yet
	sizes  map[int]uint64 // of the volumes' snapshots, in bytes
}

// run copies all volumes before any copy gets its name, so that a snapshot is whole or is not.
func (t *taking) run(ctx context.Context, rootOnly bool) (err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, remove(t.fresh))
		}
	}()
	places := t.record.GetVolumeLocations()
	if len(places) == 0 {
		return fault.New(fault.FailedPrecondition, "the VM has no volumes")
	}
	if rootOnly {
		places = places[:1]
	}
	if !runs(t.record) {
		err = t.copy(ctx, places)
	} else {
		err = t.copyLive(ctx, places)
	}
	if err != nil {
		return err
	}
	return t.publish(ctx)
}

func (t *taking) copy(ctx context.Context, places []*hypervisorv1.LocalVolume) (err error) {
	for i, p := range places {
		fresh := vm.SnapshotFile(p.GetFilename(), t.name) + unfinished
		t.fresh = append(t.fresh, fresh)
		if t.sizes[i], err = t.s.Files.Duplicate(ctx, p.GetFilename(), fresh); err != nil {
			return fault.Wrap(err, "volume %d", i)
		}
	}
	return nil
}

// copyLive copies the volumes as they all are at one moment. What the guest writes meanwhile lies in overlays, which are merged in any case.
func (t *taking) copyLive(ctx context.Context, places []*hypervisorv1.LocalVolume) error {
	uuid, overlays := t.record.GetVmInfo().GetUuid(), make(map[string]string, len(places))
	for _, p := range places {
		overlays[p.GetFilename()] = RedirectFile(p.GetFilename())
	}
	if err := t.s.Driver.RedirectDisks(ctx, uuid, overlays); err != nil {
		return err
	}
	err := t.copy(ctx, places)
	return errors.Join(err, t.s.Driver.MergeDisks(ctx, uuid, overlays))
}

// publish names the files, notes them in the record, and removes those of an older snapshot of this name that are not part of this one.
func (t *taking) publish(ctx context.Context) error {
	for i := range t.fresh {
		if err := os.Rename(t.fresh[i], vm.SnapshotFile(t.record.GetVolumeLocations()[i].GetFilename(), t.name)); err != nil {
			return fault.Wrap(err, "volume %d", i)
		}
	}
	var old []string
	_, err := t.s.Operations.Change(ctx, t.record.GetVmInfo().GetUuid(), func(r *hypervisorv1.LocalVmInfo) error {
		for i, v := range r.GetVmInfo().GetVolumes() {
			size, part := t.sizes[i]
			switch {
			case part && v.GetSnapshots() == nil:
				v.Snapshots = map[string]uint64{t.name: size}
			case part:
				v.Snapshots[t.name] = size
			default:
				delete(v.GetSnapshots(), t.name)
				old = append(old, vm.SnapshotFile(r.GetVolumeLocations()[i].GetFilename(), t.name))
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return remove(old)
}
