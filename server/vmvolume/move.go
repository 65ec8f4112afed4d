package vmvolume

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/atomicfile"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/undo"
)

// ChangeVmVolumeStorageIndex implements VolumeService. The guest of a VM that runs goes on meanwhile.
func (s *Service) ChangeVmVolumeStorageIndex(
	ctx context.Context, req *hypervisorv1.ChangeVmVolumeStorageIndexRequest,
) (*hypervisorv1.ChangeVmVolumeStorageIndexResponse, error) {
	if n := len(s.Directories); req.GetStorageIndex() >= uint32(n) {
		return nil, fault.New(fault.InvalidArgument, "storage_index: %d; the host has %d volume directories, counted from 0", req.GetStorageIndex(), n)
	}
	i := req.GetVolumeIndex()
	err := s.change(ctx, req.GetVm(), "move a volume", func(ctx context.Context, record *hypervisorv1.LocalVmInfo) error {
		if err := index(record, i); err != nil {
			return err
		}
		return fault.Wrap(s.move(ctx, record, i, s.Directories[req.GetStorageIndex()]), "volume %d", i)
	}, running)
	if err != nil {
		return nil, err
	}
	return &hypervisorv1.ChangeVmVolumeStorageIndexResponse{}, nil
}

func (s *Service) move(ctx context.Context, record *hypervisorv1.LocalVmInfo, i uint32, storage string) (err error) {
	from := record.GetVolumeLocations()[i].GetFilename()
	if within(storage, from) {
		return nil
	}
	if n := len(record.GetVmInfo().GetVolumes()[i].GetSnapshots()); n > 0 {
		return fault.New(fault.FailedPrecondition, "has %d snapshots, which lie beside it; discard them first", n)
	}
	m := moving{s: s, uuid: record.GetVmInfo().GetUuid(), from: from}
	if err := m.begin(record, storage); err != nil {
		return err
	}
	var back undo.Stack
	defer func() {
		if err != nil {
			err = errors.Join(err, back.Run(ctx))
		}
	}()
	back.Add(func(context.Context) error { return m.abandon() })
	if runs(record) {
		err = s.Driver.MoveDisk(ctx, m.uuid, from, m.to, nil)
	} else {
		_, err = s.Files.Duplicate(ctx, from, m.to)
	}
	if err != nil {
		return err
	}
	if err = m.note(ctx); err == nil {
		back.Commit()
		return m.tidy()
	}
	if !runs(record) {
		return err
	}
	if backErr := m.moveBack(ctx); backErr != nil {
		back.Commit() // the machine uses the new file; the marker has the next start of the host note it
		err = errors.Join(err, backErr)
	}
	return err
}

// moving is the move of a volume. A marker beside the new file tells a later daemon of it.
type moving struct {
	s              *Service
	uuid, from, to string
}

// movingSuffix ends the name of a marker, which holds the path of the old file.
const movingSuffix = ".moving"

// begin chooses the new file's name, and removes a file there that an earlier attempt left.
func (m *moving) begin(record *hypervisorv1.LocalVmInfo, storage string) error {
	dir := filepath.Join(storage, m.uuid)
	if err := os.MkdirAll(dir, 0o711); err != nil { //nolint:gosec // the virtualiser may run as another user; it must get through to the files
		return fault.Wrap(err, "volume directory")
	}
	m.to = filepath.Join(dir, filepath.Base(m.from))
	for _, p := range record.GetVolumeLocations() {
		if p.GetFilename() != m.to {
			continue
		}
		var err error
		if m.to, err = freeName(dir); err != nil {
			return err
		}
		break
	}
	if err := remove(m.to); err != nil {
		return err
	}
	return fault.Wrap(atomicfile.Write(m.to+movingSuffix, []byte(m.from)), "marker")
}

// abandon removes the new file.
func (m *moving) abandon() error {
	err := remove(m.to, m.to+movingSuffix)
	_ = os.Remove(filepath.Dir(m.to)) // stays if other files are in it
	return err
}

// moveBack has a machine use the old file again, because the record will go on naming it.
func (m *moving) moveBack(ctx context.Context) error {
	if err := remove(m.from); err != nil {
		return err
	}
	return fault.Wrap(m.s.Driver.MoveDisk(ctx, m.uuid, m.to, m.from, nil), "move it back from %s", m.to)
}

// note keeps in the record where the volume is now.
func (m *moving) note(ctx context.Context) error {
	_, err := m.s.Operations.Change(ctx, m.uuid, func(r *hypervisorv1.LocalVmInfo) error {
		for _, p := range r.GetVolumeLocations() {
			if p.GetFilename() == m.from {
				p.Filename, p.DirectoryToCleanup = m.to, filepath.Dir(m.to)
			}
		}
		return nil
	})
	return err
}

// tidy removes what a finished move leaves.
func (m *moving) tidy() error {
	if err := remove(m.from); err != nil {
		return err
	}
	_ = os.Remove(filepath.Dir(m.from)) // stays if other files are in it
	return remove(m.to + movingSuffix)
}
