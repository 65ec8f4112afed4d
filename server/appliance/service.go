// Package appliance is the ApplianceService: copies of whole machines, and what goes into their CD drives. Clones, templates and backups are all made in the same
// way: the disks are captured as they are at one moment, and a machine is made of captured disks.
//
// Nothing half-made carries its name: files are written under hidden names, and what belongs to a piece of work is noted in the store, so that it can be removed
// after an error and, by Recover, after the daemon was killed.
package appliance

import (
	"context"
	"os"
	"time"

	"github.com/hyperplane-project/hyperplane/converters"
	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/keylock"
	"github.com/hyperplane-project/hyperplane/internal/principal"
	"github.com/hyperplane-project/hyperplane/server/guestfs"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
	"github.com/hyperplane-project/hyperplane/server/store"
)

// Driver is what the service needs of the host.
type Driver interface {
	hypervisor.Appliances
	hypervisor.Definitions
	ListDomains(ctx context.Context) ([]hypervisor.Domain, error)
	FindDomain(ctx context.Context, ref string) (hypervisor.Domain, error)
	StartDomain(ctx context.Context, uuid string) error
	ListPools(ctx context.Context) ([]hypervisor.StoragePool, error)
	GetPool(ctx context.Context, name string) (hypervisor.StoragePool, error)
	Kill(ctx context.Context, uuid string) error
	Undefine(ctx context.Context, uuid string) error
}

// VMs are the VMs of the control plane.
type VMs interface {
	// Get returns the VM that ref names: its UUID, an IP address of it, or its name.
	Get(ref string) (*hypervisorv1.LocalVmInfo, error)
}

// Operations is what is done to VMs.
type Operations interface {
	// Acquire takes the VM's lock; release gives it back. Change and Resume need it.
	Acquire(ctx context.Context, ref string) (record *hypervisorv1.LocalVmInfo, release func(), err error)
	Change(ctx context.Context, uuid string, change func(*hypervisorv1.LocalVmInfo) error) (*hypervisorv1.LocalVmInfo, error)
	Resume(ctx context.Context, uuid string, dhcpTimeout time.Duration) (timedOut bool, err error)
	// Import makes a VM of finished files, and takes them over.
	Import(ctx context.Context, uuid string, spec *hypervisorv1.CreateVmSpec, files []string, caller principal.Caller) (*hypervisorv1.VmInfo, error)
	DestroyVm(ctx context.Context, req *hypervisorv1.DestroyVmRequest) (*hypervisorv1.DestroyVmResponse, error)
	// Directory returns the folder for the VM's files.
	Directory(uuid string) (string, error)
}

// UserData keeps user data of VMs.
type UserData interface {
	// Put makes content the user data of a VM that has none yet.
	Put(uuid string, content []byte) error
}

// Guests changes the file systems in disks that no machine uses.
type Guests interface {
	Seal(ctx context.Context, d hypervisor.Disk, traces []guestfs.Trace) error
}

// Deps are the collaborators.
type Deps struct {
	Driver     Driver
	VMs        VMs
	Operations Operations
	UserData   UserData
	Guests     Guests
	Formats    converters.Formats
	Store      store.Store
	// BackupDir, TemplateDir and ISODir hold backups, templates and ISO images, StageDir disks of VMs that are being made; it must lie on the file system of the VMs'
	// volumes. ImageDir is one more directory that templates may be exported to.
	BackupDir, TemplateDir, ISODir, StageDir, ImageDir string
	Now                                                func() time.Time
	NewUUID                                            func() string
	// NewMAC makes the address of a network card; nil = a random one.
	NewMAC func() string
}

// Service is the ApplianceService. Make one with Open.
type Service struct {
	hypervisorv1.UnimplementedApplianceServiceServer
	Deps
	// domains, templates, backups and isos are locks by UUID and by name.
	domains, templates, backups, isos keylock.Map[string]
	// left are the notes of work that an earlier daemon has begun.
	left []string
}

var _ hypervisorv1.ApplianceServiceServer = (*Service)(nil)

// Open makes the service and its directories, and finds what an earlier daemon has left, for Recover.
func Open(ctx context.Context, d Deps) (*Service, error) {
	if d.NewMAC == nil {
		d.NewMAC = newMAC
	}
	s := &Service{Deps: d}
	for _, dir := range []string{d.BackupDir, d.TemplateDir, d.ISODir} {
		if err := os.MkdirAll(dir, 0o711); err != nil { //nolint:gosec // QEMU may run as another user, who must get through to files that it writes
			return nil, fault.Wrap(err, "appliance directory")
		}
	}
	if err := s.removeUploads(); err != nil {
		return nil, err
	}
	return s, d.Store.View(ctx, func(r store.Reader) error {
		s.left = nil
		for e := range r.Scan(workPrefix, "") {
			s.left = append(s.left, e.Key)
		}
		return nil
	})
}
