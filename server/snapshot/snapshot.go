// Package snapshot is the SnapshotService: states of a VM's volumes that are kept beside them. A snapshot is a second file that shares its blocks with the
// volume where the file system can (XFS, btrfs), and a sparse copy elsewhere. While a VM runs its volumes' files are kept still by having it write elsewhere
// until they are copied.
package snapshot

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/vm"
)

// maxName bounds a snapshot's name, which becomes part of a file's name.
const maxName = 64

// Operations is what changes of a VM need.
type Operations interface {
	// Acquire takes the VM's lock; release gives it back.
	Acquire(ctx context.Context, ref string) (record *hypervisorv1.LocalVmInfo, release func(), err error)
	// Change replaces the VM's record. The caller holds the lock.
	Change(ctx context.Context, uuid string, change func(*hypervisorv1.LocalVmInfo) error) (*hypervisorv1.LocalVmInfo, error)
	// Finish runs an operation to its end even if its caller goes away.
	Finish(ctx context.Context, op func(context.Context) error) error
	// Directory returns the folder for the VM's files.
	Directory(uuid string) (string, error)
	// Halt brings a VM that is RUNNING to STOPPED. The caller holds the lock.
	Halt(ctx context.Context, uuid string) error
	// Resume starts a VM that is STOPPED. timedOut says that the guest did not take its address in time; with 0 nobody waits for that. The caller holds the lock.
	Resume(ctx context.Context, uuid string, dhcpTimeout time.Duration) (timedOut bool, err error)
}

// VMs knows the VMs.
type VMs interface {
	List() []*hypervisorv1.VmInfo
}

// Driver keeps the files of a VM's volumes still while the VM runs.
type Driver interface {
	RedirectDisks(ctx context.Context, uuid string, overlays map[string]string) error
	MergeDisks(ctx context.Context, uuid string, overlays map[string]string) error
}

// Files copies files of volumes.
type Files interface {
	// Duplicate makes a file with the content of another, without copying where the file system can share blocks, and returns how many bytes of it are no
	// holes. A file of this name is replaced. Holes stay holes. A failed call leaves nothing.
	Duplicate(ctx context.Context, from, to string) (uint64, error)
	// Size returns the size of the disk in a volume's file, in bytes.
	Size(ctx context.Context, file string, format hypervisorv1.VolumeFormat) (uint64, error)
}

// Service is the SnapshotService.
type Service struct {
	hypervisorv1.UnimplementedSnapshotServiceServer
	VMs        VMs
	Operations Operations
	Files      Files
	Driver     Driver
}

var _ hypervisorv1.SnapshotServiceServer = (*Service)(nil)

// checkName refuses names that cannot be part of a file's name. A snapshot may be without a name: it is what legacy clients make that are told none.
func checkName(name string) error {
	switch {
	case len(name) > maxName:
		return fault.New(fault.InvalidArgument, "name: must have at most %d bytes, this one has %d", maxName, len(name))
	case strings.ContainsAny(name, ".:/") || strings.ContainsFunc(name, unicode.IsControl) || !utf8.ValidString(name):
		return fault.New(fault.InvalidArgument, "name: %q has a dot, a colon, a slash or a control character", name)
	}
	return nil
}

// acquire takes the lock of a VM that is stopped, or with force of one that runs or has ended unexpectedly. What an earlier operation has left half-done is
// brought to its end first.
func (s *Service) acquire(ctx context.Context, ref, action string, force bool) (*hypervisorv1.LocalVmInfo, func(), error) {
	record, release, err := s.Operations.Acquire(ctx, ref)
	if err != nil {
		return nil, nil, err
	}
	info, states := record.GetVmInfo(), []hypervisorv1.State{hypervisorv1.State_STATE_STOPPED}
	if force {
		states = append(states, hypervisorv1.State_STATE_RUNNING, hypervisorv1.State_STATE_CRASHED, hypervisorv1.State_STATE_FAILED_TO_START)
	}
	err = vm.Require(info, action, states...)
	if err == nil && len(record.GetVolumeLocations()) != len(info.GetVolumes()) {
		err = fault.New(fault.Internal, "vm %s: %d volumes lie at %d places", vm.Name(info), len(info.GetVolumes()), len(record.GetVolumeLocations()))
	}
	if err == nil {
		record, err = s.Settle(ctx, record)
	}
	if err != nil {
		release()
		return nil, nil, err
	}
	return record, release, nil
}

func runs(record *hypervisorv1.LocalVmInfo) bool {
	return record.GetVmInfo().GetState() == hypervisorv1.State_STATE_RUNNING
}

// having returns the indices of the volumes that have the snapshot.
func having(record *hypervisorv1.LocalVmInfo, name string) ([]int, error) {
	var found []int
	for i, v := range record.GetVmInfo().GetVolumes() {
		if _, ok := v.GetSnapshots()[name]; ok {
			found = append(found, i)
		}
	}
	if len(found) == 0 {
		return nil, fault.New(fault.NotFound, "vm %s: there is no snapshot %q", vm.Name(record.GetVmInfo()), name)
	}
	return found, nil
}

// remove removes files. One that is missing is no error.
func remove(files []string) error {
	var errs []error
	for _, f := range files {
		if err := os.Remove(f); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fault.Wrap(err, "snapshot"))
		}
	}
	return errors.Join(errs...)
}
