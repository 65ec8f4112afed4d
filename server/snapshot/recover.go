package snapshot

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/vm"
)

// RedirectFile is where the changes of a volume go while the snapshot of a VM that runs is made: beside the volume.
func RedirectFile(volume string) string { return volume + ".redirect" }

// Recover brings to its end what a killed daemon has left: overlays are merged, restorations that have begun are completed, half-made files are removed. It is
// called once, when the virtualiser can be reached and before methods are served. A VM that cannot be recovered keeps no other from it; the virtualiser does
// not start it before it is.
func (s *Service) Recover(ctx context.Context) error {
	var errs []error
	for _, info := range s.VMs.List() {
		errs = append(errs, fault.Wrap(s.recover(ctx, info.GetUuid()), "vm %s: unfinished snapshot", vm.Name(info)))
	}
	return errors.Join(errs...)
}

func (s *Service) recover(ctx context.Context, uuid string) error {
	record, release, err := s.Operations.Acquire(ctx, uuid)
	if err != nil {
		return err
	}
	defer release()
	if record, err = s.Settle(ctx, record); err != nil {
		return err
	}
	return removeUnfinished(record)
}

// Settle merges overlays and completes a restoration that were left, and returns the record as it is then. The caller holds the VM's lock.
func (s *Service) Settle(ctx context.Context, record *hypervisorv1.LocalVmInfo) (*hypervisorv1.LocalVmInfo, error) {
	uuid, overlays := record.GetVmInfo().GetUuid(), make(map[string]string)
	for _, p := range record.GetVolumeLocations() {
		if _, err := os.Lstat(RedirectFile(p.GetFilename())); err == nil {
			overlays[p.GetFilename()] = RedirectFile(p.GetFilename())
		}
	}
	if len(overlays) > 0 {
		if err := s.Driver.MergeDisks(ctx, uuid, overlays); err != nil {
			return nil, err
		}
	}
	dir, err := s.Operations.Directory(uuid)
	if err != nil {
		return nil, err
	}
	j, err := readJournal(dir)
	if err != nil || j == nil {
		return record, err
	}
	if runs(record) {
		return nil, fault.New(fault.FailedPrecondition, "vm %s: the restoration of snapshot %q was interrupted; stop the VM first", vm.Name(record.GetVmInfo()), j.Snapshot)
	}
	j.begun = true
	if err := s.complete(ctx, uuid, dir, j); err != nil {
		return nil, err
	}
	// No change: it returns the record.
	return s.Operations.Change(ctx, uuid, func(*hypervisorv1.LocalVmInfo) error { return nil })
}

// removeUnfinished removes copies that were being made beside a VM's volumes.
func removeUnfinished(record *hypervisorv1.LocalVmInfo) error {
	var files []string
	for i, p := range record.GetVolumeLocations() {
		files = append(files, p.GetFilename()+fresh)
		left, err := unfinishedOf(p.GetFilename())
		if err != nil {
			return fault.Wrap(err, "volume %d", i)
		}
		files = append(files, left...)
	}
	return remove(files)
}

// unfinishedOf lists the snapshots of a volume that were being made.
func unfinishedOf(volume string) (files []string, err error) {
	entries, err := os.ReadDir(filepath.Dir(volume))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	prefix := vm.SnapshotFile(filepath.Base(volume), "")
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), prefix) && strings.HasSuffix(e.Name(), unfinished) {
			files = append(files, filepath.Join(filepath.Dir(volume), e.Name()))
		}
	}
	return files, err
}
