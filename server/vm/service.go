package vm

import (
	"cmp"
	"context"
	"io"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/keylock"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
	"github.com/hyperplane-project/hyperplane/server/network"
)

// Network gives addresses to VMs and connects their network cards.
type Network interface {
	Allocate(req network.Request) (*hypervisorv1.Address, string, error)
	Release(uuid string)
	// Surrender releases the addresses of a VM that has them at another host now, and takes them out of the pools; Adopt puts those of a VM that has come in.
	Surrender(ctx context.Context, uuid string) error
	Adopt(ctx context.Context, uuid string) error
	Attach(ctx context.Context, subnetID string) (hypervisor.NIC, error)
	// Restore marks the addresses of VMs as in use, with the VMs' host names, also those that are in use already.
	Restore(vms []*hypervisorv1.VmInfo)
	// Lease says whether the DHCP server answers a VM's network cards; it does unless told otherwise.
	Lease(uuid string, give bool)
	// Acknowledged returns a channel that is closed once the DHCP server has, from now on, acknowledged the VM's primary address. stop must be called.
	// Unimplemented where the DHCP server is not ours.
	Acknowledged(uuid string) (done <-chan struct{}, stop func(), err error)
}

// VolumeSpec is the wish for a volume's file.
type VolumeSpec struct {
	// File is the path; it must not exist.
	File   string
	Format hypervisorv1.VolumeFormat
	// Size is the smallest size that the volume may have, in bytes.
	Size uint64
	// MinimumFree is added to the image's size, which is 0 if there is none; RoundupPower rounds the sum up to a multiple of 2 to this power (0 = not).
	MinimumFree, RoundupPower uint64
	// Raw says that what is read is the disk itself, whatever it looks like; otherwise its format is found out.
	Raw bool
	// Progress is called with the bytes of the image that have arrived and, if known, with all. May be nil.
	Progress func(done, total uint64)
}

// Volumes makes the files of volumes. A failed call leaves nothing.
type Volumes interface {
	// Directory makes and returns the directory for a VM's files, which is that for its volumes on the first storage device.
	Directory(uuid string) (string, error)
	// VolumeDirectory makes and returns the directory for a VM's volumes on a storage device; Storages is how many there are.
	VolumeDirectory(uuid string, storage int) (string, error)
	Storages() int
	// RemoveDirectory removes all directories of a VM with everything in them. A missing one is no error.
	RemoveDirectory(uuid string) error
	// FromImage makes a volume from one of the host's images, by its name.
	FromImage(ctx context.Context, name string, v VolumeSpec) (uint64, error)
	// FromURL makes a volume from an image at a file, http or https URL, FromReader from one of size bytes. They return the volume's size.
	FromURL(ctx context.Context, url string, v VolumeSpec) (uint64, error)
	FromReader(ctx context.Context, r io.Reader, size uint64, v VolumeSpec) (uint64, error)
	// Empty makes a volume of zeros, as from an image of no bytes, and returns its size.
	Empty(ctx context.Context, v VolumeSpec) (uint64, error)
	// Adopt makes a finished image the volume, without copying where that is possible, and returns the volume's size. The file stays where it is
	// too; removing it is its owner's business.
	Adopt(ctx context.Context, file string, v VolumeSpec) (uint64, error)
}

// Identity keeps what proves who a VM is.
type Identity interface {
	// Check says what is wrong with credentials for a VM, both PEM.
	Check(ctx context.Context, certificate, key []byte) error
	// Install gives a VM its credentials and returns whose they are and until when.
	Install(ctx context.Context, uuid string, certificate, key []byte) (name string, expires *timestamppb.Timestamp, err error)
	// Drop takes away credentials and access token, because the VM has moved or ends. Called with the VM's lock held.
	Drop(ctx context.Context, uuid string) error
}

// UserData keeps user data in VMs' folders.
type UserData interface {
	// Put makes content the user data of a VM that has none yet.
	Put(uuid string, content []byte) error
	// Seed returns the file of a disk that brings a VM's user data to it, made anew; empty if the VM has none.
	Seed(ctx context.Context, info *hypervisorv1.VmInfo) (file string, err error)
}

// Guests changes the file systems in volumes that no machine uses.
type Guests interface {
	// Overlay makes directories and writes files, path to content, in the root file system.
	Overlay(ctx context.Context, d hypervisor.Disk, directories []string, files map[string][]byte) error
	// MakeFilesystem makes a file system on a whole disk.
	MakeFilesystem(ctx context.Context, d hypervisor.Disk, init *hypervisorv1.VolumeInitialisationInfo) error
}

// Deps are the collaborators of the service.
type Deps struct {
	Log      *slog.Logger
	Driver   hypervisor.Driver
	Registry *Registry
	Network  Network
	Volumes  Volumes
	Now      func() time.Time
	NewUUID  func() string
	// Identity and UserData keep what else belongs to a VM, Guests changes the file systems in volumes. Nil = not on this host.
	Identity Identity
	UserData UserData
	Guests   Guests
	// Disabled reports whether the host takes no VMs and starts none; nil is never.
	Disabled func() bool
	// BeforeStart ends what was left half-done of a VM's volumes, under its lock, and returns the record as it is then; nil = there is nothing like that.
	BeforeStart func(ctx context.Context, record *hypervisorv1.LocalVmInfo) (*hypervisorv1.LocalVmInfo, error)
	// AfterFunc calls f after d unless stop is called before; nil = time.AfterFunc.
	AfterFunc func(d time.Duration, f func()) (stop func())
	// LockPatience is how long a caller waits for a VM that another operation holds; 0 = DefaultLockPatience.
	LockPatience time.Duration
}

// Service is the VmService and the VmConfigurationService. Methods that are not built answer UNIMPLEMENTED.
type Service struct {
	hypervisorv1.UnimplementedVmServiceServer
	hypervisorv1.UnimplementedVmConfigurationServiceServer
	Deps
	registry *Registry
	locks    keylock.Map[string]
	holders  holders
	states   *states
	awaited  acknowledgements
	// ops are operations that go on when their caller has gone; Close waits for them.
	ops sync.WaitGroup
	// capacity guards the check of free memory against two starts at once.
	capacity sync.Mutex
}

var (
	_ hypervisorv1.VmServiceServer              = (*Service)(nil)
	_ hypervisorv1.VmConfigurationServiceServer = (*Service)(nil)
)

// New makes the service. Call Run to have it follow the virtualiser.
func New(d Deps) *Service {
	if d.AfterFunc == nil {
		d.AfterFunc = func(after time.Duration, f func()) func() {
			timer := time.AfterFunc(after, f)
			return func() { timer.Stop() }
		}
	}
	d.LockPatience = cmp.Or(d.LockPatience, DefaultLockPatience)
	return &Service{Deps: d, registry: d.Registry, states: newStates()}
}

// Close waits for operations that are under way. VMs that still wait for their acknowledgement stay.
func (s *Service) Close() {
	s.awaited.close()
	s.ops.Wait()
}

// detached runs an operation to its end even if its caller goes away, and returns its error if the caller is still there.
func (s *Service) detached(ctx context.Context, op func(context.Context) error) error {
	done := make(chan error, 1)
	s.ops.Go(func() { done <- op(context.WithoutCancel(ctx)) })
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// background runs an operation whose caller does not wait; its failure is seen in the VM's state and in the log.
func (s *Service) background(ctx context.Context, what, uuid string, op func(context.Context) error) {
	ctx = context.WithoutCancel(ctx)
	s.ops.Go(func() {
		if err := op(ctx); err != nil {
			s.Log.LogAttrs(ctx, slog.LevelWarn, "operation failed", slog.String("operation", what), slog.String("vm", uuid), slog.Any("error", err))
		}
	})
}

// setState changes a VM's state and says why.
func (s *Service) setState(ctx context.Context, uuid string, state hypervisorv1.State, reason string) (*hypervisorv1.LocalVmInfo, error) {
	return s.registry.Change(ctx, uuid, func(record *hypervisorv1.LocalVmInfo) error {
		s.enter(record.GetVmInfo(), state, reason)
		return nil
	})
}
