// Package vmvolume is the VolumeService: which volumes a VM has, in which order and of what size. The files themselves are made by package volume.
package vmvolume

import (
	"context"
	"errors"
	"io/fs"
	"os"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
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
	Get(ref string) (*hypervisorv1.LocalVmInfo, error)
	List() []*hypervisorv1.VmInfo
}

// Driver is what the virtualiser does for volumes of VMs that run.
type Driver interface {
	hypervisor.LiveDisks
	Host(ctx context.Context) (hypervisor.Host, error)
	Get(ctx context.Context, uuid string) (hypervisor.Machine, error)
}

// Filesystems changes the file systems in volumes of VMs that are stopped.
type Filesystems interface {
	// GrowFilesystem has the last file system of a disk that became larger reach to the disk's end. One that it does not know stays as it is, which is no error.
	GrowFilesystem(ctx context.Context, d hypervisor.Disk) error
	// ShrinkFilesystem makes room at the end of a disk that is about to be cut to size bytes. FailedPrecondition, and nothing changed, if it cannot.
	ShrinkFilesystem(ctx context.Context, d hypervisor.Disk, size uint64) error
}

// Files makes and changes the files of volumes.
type Files interface {
	// Empty makes a volume of zeros and returns its size.
	Empty(ctx context.Context, v vm.VolumeSpec) (uint64, error)
	// Grow makes the disk in a volume's file larger, up to size bytes. What is added are zeros. A failed call leaves the file as it was.
	Grow(ctx context.Context, file string, format hypervisorv1.VolumeFormat, size uint64) error
	// Duplicate makes the file to with the content of the file from; blocks are shared where the file system can. A file of this name is replaced. It is
	// there whole, and will be after a power cut, or not at all.
	Duplicate(ctx context.Context, from, to string) (uint64, error)
}

// Service is the VolumeService.
type Service struct {
	hypervisorv1.UnimplementedVolumeServiceServer
	VMs        VMs
	Operations Operations
	Files      Files
	Driver     Driver
	// Filesystems is nil where file systems cannot be changed: volumes then only grow, and their guests grow what is in them.
	Filesystems Filesystems
	// Directories are the places in which volumes are kept: the storage devices, by index. A VM's volumes lie in a folder of its UUID there.
	Directories []string
}

var _ hypervisorv1.VolumeServiceServer = (*Service)(nil)

// change changes the volumes of a VM that is STOPPED, or in one of the other states.
func (s *Service) change(
	ctx context.Context, ref, action string, op func(ctx context.Context, record *hypervisorv1.LocalVmInfo) error, others ...hypervisorv1.State,
) error {
	return s.Operations.Finish(ctx, func(ctx context.Context) error {
		record, release, err := s.Operations.Acquire(ctx, ref)
		if err != nil {
			return err
		}
		defer release()
		info := record.GetVmInfo()
		if err := vm.Require(info, action, append(others, hypervisorv1.State_STATE_STOPPED)...); err != nil {
			return err
		}
		if len(record.GetVolumeLocations()) != len(info.GetVolumes()) {
			return fault.New(fault.Internal, "vm %s: %d volumes lie at %d places", vm.Name(info), len(info.GetVolumes()), len(record.GetVolumeLocations()))
		}
		return fault.Wrap(op(ctx, record), "vm %s", vm.Name(info))
	})
}

const running = hypervisorv1.State_STATE_RUNNING

func runs(record *hypervisorv1.LocalVmInfo) bool { return record.GetVmInfo().GetState() == running }

// describe describes a volume to the virtualiser.
func describe(info *hypervisorv1.VmInfo, v *hypervisorv1.Volume, file string) hypervisor.Disk {
	d := hypervisor.Disk{File: file}
	if v.GetFormat() == hypervisorv1.VolumeFormat_VOLUME_FORMAT_QCOW2 {
		d.Format = hypervisor.DiskQCOW2
	}
	d.Bus, _ = vm.DiskBus(info, v.GetInterface()) // no volume has an interface that no VM can have
	return d
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
