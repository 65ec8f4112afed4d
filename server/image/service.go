package image

import (
	"context"
	"io"
	"log/slog"
	"time"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/guestfs"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
	"github.com/hyperplane-project/hyperplane/server/store"
	"github.com/hyperplane-project/hyperplane/server/vm"
)

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
	// CheckLease refuses a wait for a VM's lease that nobody would see.
	CheckLease(uuid string, timeout time.Duration) error
	// Halt brings a VM to STOPPED; Resume starts a STOPPED one, ResumeDebugging from the file vm.DebugFile. The caller holds the lock.
	Halt(ctx context.Context, uuid string) error
	Resume(ctx context.Context, uuid string, dhcpTimeout time.Duration) (timedOut bool, err error)
	ResumeDebugging(ctx context.Context, uuid string, dhcpTimeout time.Duration) (timedOut bool, err error)
}

// Volumes makes the files of volumes. A failed call leaves nothing.
type Volumes interface {
	FromImage(ctx context.Context, name string, v vm.VolumeSpec) (uint64, error)
	FromURL(ctx context.Context, url string, v vm.VolumeSpec) (uint64, error)
	FromReader(ctx context.Context, r io.Reader, size uint64, v vm.VolumeSpec) (uint64, error)
	// Duplicate makes a file with the content of another.
	Duplicate(ctx context.Context, from, to string) (uint64, error)
	// Size returns the size of the disk in a volume's file, in bytes.
	Size(ctx context.Context, file string, format hypervisorv1.VolumeFormat) (uint64, error)
}

// Guests changes the file systems in volumes that no machine uses.
type Guests interface {
	Overlay(ctx context.Context, d hypervisor.Disk, directories []string, files map[string][]byte) error
	OverlayRoot(ctx context.Context, r guestfs.Root, directories []string, files map[string][]byte) error
	GrowFilesystem(ctx context.Context, d hypervisor.Disk) error
	Patch(ctx context.Context, r guestfs.Root, image hypervisor.Disk, filter []string, log io.Writer) error
	Scan(ctx context.Context, r guestfs.Root, filter []string, emit func(*hypervisorv1.FileEntry) error) error
}

// Images are the host's images by name.
type Images interface {
	// Open returns an image and its raw file, which stays as it is until release is called.
	Open(ctx context.Context, name string) (image *hypervisorv1.LocalImage, file string, release func(), err error)
}

// Service is the ImageService. Call Recover before the first method.
type Service struct {
	hypervisorv1.UnimplementedImageServiceServer
	Log        *slog.Logger
	Operations Operations
	Volumes    Volumes
	Guests     Guests
	Images     Images
	VMs        Lister
	Store      store.Store
}

var _ hypervisorv1.ImageServiceServer = (*Service)(nil)

// root returns the path of a VM's root volume.
func root(record *hypervisorv1.LocalVmInfo) (string, error) {
	if len(record.GetVolumeLocations()) == 0 || len(record.GetVmInfo().GetVolumes()) == 0 {
		return "", fault.New(fault.FailedPrecondition, "vm %s: has no root volume", vm.Name(record.GetVmInfo()))
	}
	return record.GetVolumeLocations()[0].GetFilename(), nil
}

func diskFormat(f hypervisorv1.VolumeFormat) hypervisor.DiskFormat {
	if f == hypervisorv1.VolumeFormat_VOLUME_FORMAT_QCOW2 {
		return hypervisor.DiskQCOW2
	}
	return hypervisor.DiskRaw
}

// guestRoot is the root file system in a file that stands for a VM's root volume.
func guestRoot(record *hypervisorv1.LocalVmInfo, file string) guestfs.Root {
	info := record.GetVmInfo()
	return guestfs.Root{
		Disk:  hypervisor.Disk{File: file, Format: diskFormat(info.GetVolumes()[0].GetFormat())},
		Label: info.GetRootFileSystemLabel(),
	}
}

func running(record *hypervisorv1.LocalVmInfo) bool {
	return record.GetVmInfo().GetState() == hypervisorv1.State_STATE_RUNNING
}
