package snapshot

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/atomicfile"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/vm"
)

// journalName is the file in a VM's folder that says how a restoration which has begun to replace volumes goes on.
const journalName = "restore.journal"

// The ends of the names of files that are not what they are to be yet.
const (
	unfinished = ".unfinished"
	fresh      = ".restored"
)

// journal is a restoration whose new files are complete.
type journal struct {
	Snapshot string     `json:"snapshot"`
	Retain   bool       `json:"retain"`
	Volumes  []restored `json:"volumes"`
	begun    bool       // some volume may have been replaced
}

// restored is a volume that gets another content, and the size of the disk in that, in bytes.
type restored struct {
	File string `json:"file"`
	Size uint64 `json:"size"`
}

func (v restored) fresh() string { return v.File + fresh }

func (j *journal) write(dir string) error {
	text, err := json.Marshal(j)
	if err != nil {
		return fault.As(fault.Internal, err, "journal")
	}
	return fault.Wrap(atomicfile.Write(filepath.Join(dir, journalName), text), "journal")
}

// readJournal returns the journal in a VM's folder, or nil if there is none.
func readJournal(dir string) (*journal, error) {
	text, err := os.ReadFile(filepath.Join(dir, journalName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fault.Wrap(err, "journal")
	}
	j := new(journal)
	return j, fault.As(fault.DataLoss, json.Unmarshal(text, j), "journal %s", filepath.Join(dir, journalName))
}

// discard removes the new files.
func (j *journal) discard() error {
	var files []string
	for _, v := range j.Volumes {
		files = append(files, v.fresh())
	}
	return remove(files)
}

// complete does what the journal says, from wherever it was left. If the first step fails nothing has changed, and the journal goes.
func (s *Service) complete(ctx context.Context, uuid, dir string, j *journal) error {
	for _, v := range j.Volumes {
		err := os.Rename(v.fresh(), v.File)
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // a missing one was renamed before
			if !j.begun {
				err = errors.Join(err, remove([]string{filepath.Join(dir, journalName)}))
			}
			return fault.Wrap(err, "restore %s", v.File)
		}
		j.begun = true
		if err := atomicfile.SyncDir(filepath.Dir(v.File)); err != nil {
			return fault.Wrap(err, "restore %s", v.File)
		}
	}
	if err := s.note(ctx, uuid, j); err != nil {
		return err
	}
	done := []string{filepath.Join(dir, journalName)}
	for _, v := range j.Volumes {
		if !j.Retain {
			done = append(done, vm.SnapshotFile(v.File, j.Snapshot))
		}
	}
	return remove(done)
}

// note keeps in the record what the volumes are now.
func (s *Service) note(ctx context.Context, uuid string, j *journal) error {
	_, err := s.Operations.Change(ctx, uuid, func(r *hypervisorv1.LocalVmInfo) error {
		for _, to := range j.Volumes {
			for i, p := range r.GetVolumeLocations() {
				if p.GetFilename() != to.File {
					continue
				}
				v := r.GetVmInfo().GetVolumes()[i]
				v.Size, v.VirtualSize = to.Size, to.Size
				if !j.Retain {
					delete(v.GetSnapshots(), j.Snapshot)
				}
			}
		}
		return nil
	})
	return err
}
