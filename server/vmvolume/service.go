// Package vmvolume is the VolumeService: which volumes a VM has, in which order and of what size. The files themselves are made by package volume.
package vmvolume

import (
	"context"
	"errors"
	"io/fs"
	"os"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/vm"
)

// Operations is what changes of a VM need.
type Operations interface {
	// Acquire takes the VM's lock; release gives it back.
	Acquire(ctx context.Context, ref string) (record *hypervisorv1.LocalVmInfo, release func(), err error)
	// Change replaces the VM's record. The caller holds the lock. If change fails, nothing changes.
	Change(ctx context.Context, uuid string, change func(*hypervisorv1.LocalVmInfo) error) (*hypervisorv1.LocalVmInfo, error)
	// Directory returns the folder for the VM's files.
	Directory(uuid string) (string, error)
	// Finish runs an operation to its end even if its caller goes away.
	Finish(ctx context.Context, op func(context.Context) error) error
}

// VMs knows the VMs.
type VMs interface {
	Info(ref string) (*hypervisorv1.VmInfo, error)
	Get(ref string) (*hypervisorv1.LocalVmInfo, error)
}

// Files makes and changes the files of volumes.
type Files interface {
	// Empty makes a volume of zeros.
	Empty(ctx context.Context, v vm.VolumeSpec) error
	// Grow makes the disk in a volume's file larger, up to size bytes. What is added are zeros. A failed call leaves the file as it was.
	Grow(ctx context.Context, file string, format hypervisorv1.VolumeFormat, size uint64) error
}

// Service is the VolumeService. Methods that are not built answer UNIMPLEMENTED.
type Service struct {
	hypervisorv1.UnimplementedVolumeServiceServer
	VMs        VMs
	Operations Operations
	Files      Files
	// Directories are the places in which volumes are kept: the storage devices, by index.
	Directories []string
}

var _ hypervisorv1.VolumeServiceServer = (*Service)(nil)

// change changes the volumes of a stopped VM.
func (s *Service) change(ctx context.Context, ref, action string, op func(ctx context.Context, record *hypervisorv1.LocalVmInfo) error) error {
	return s.Operations.Finish(ctx, func(ctx context.Context) error {
		record, release, err := s.Operations.Acquire(ctx, ref)
		if err != nil {
			return err
		}
		defer release()
		info := record.GetVmInfo()
		if err := vm.Require(info, action, hypervisorv1.State_STATE_STOPPED); err != nil {
			return err
		}
		if len(record.GetVolumeLocations()) != len(info.GetVolumes()) {
			return fault.New(fault.Internal, "vm %s: %d volumes lie at %d places", vm.Name(info), len(info.GetVolumes()), len(record.GetVolumeLocations()))
		}
		return fault.Wrap(op(ctx, record), "vm %s", vm.Name(info))
	})
}

// index checks the index of a volume.
func index(record *hypervisorv1.LocalVmInfo, i uint32) error {
	if n := len(record.GetVmInfo().GetVolumes()); i >= uint32(n) {
		return fault.New(fault.InvalidArgument, "volume_index: %d; the VM has %d volumes, counted from 0", i, n)
	}
	return nil
}

// remove removes files. One that is missing is no error.
func remove(files ...string) error {
	var errs []error
	for _, f := range files {
		if err := os.Remove(f); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fault.Wrap(err, "volume"))
		}
	}
	return errors.Join(errs...)
}
