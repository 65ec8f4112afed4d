// Package virtualisation is the VirtualisationService: everything on the host's virtualisation service, also what the control plane did not make. A domain that
// is a VM is changed only through the VM's own operations, a network that belongs to a subnet not at all, and a volume that a domain uses only in ways that the
// domain does not notice.
package virtualisation

import (
	"context"
	"crypto/rand"
	"fmt"
	"sync"
	"time"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
	"github.com/hyperplane-project/hyperplane/server/store"
)

// Driver is what the service needs of the host.
type Driver interface {
	hypervisor.Virtualisation
	List(ctx context.Context) ([]hypervisor.Machine, error)
	Shutdown(ctx context.Context, uuid string) error
	Kill(ctx context.Context, uuid string) error
	Reboot(ctx context.Context, uuid string) error
}

// VMs are the VMs of the control plane.
type VMs interface {
	// Get returns the VM that ref names: its UUID, an IP address of it, or its name.
	Get(ref string) (*hypervisorv1.LocalVmInfo, error)
	List() []*hypervisorv1.VmInfo
}

// Operations are the VM service's.
type Operations interface {
	StartVm(ctx context.Context, req *hypervisorv1.StartVmRequest) (*hypervisorv1.StartVmResponse, error)
	StopVm(ctx context.Context, req *hypervisorv1.StopVmRequest) (*hypervisorv1.StopVmResponse, error)
	RebootVm(ctx context.Context, req *hypervisorv1.RebootVmRequest) (*hypervisorv1.RebootVmResponse, error)
}

// Snapshots are the SnapshotService's.
type Snapshots interface {
	SnapshotVm(ctx context.Context, req *hypervisorv1.SnapshotVmRequest) (*hypervisorv1.SnapshotVmResponse, error)
	RestoreVmFromSnapshot(ctx context.Context, req *hypervisorv1.RestoreVmFromSnapshotRequest) (*hypervisorv1.RestoreVmFromSnapshotResponse, error)
	DiscardVmSnapshot(ctx context.Context, req *hypervisorv1.DiscardVmSnapshotRequest) (*hypervisorv1.DiscardVmSnapshotResponse, error)
}

// Deps are the collaborators. All but those that say so must be set.
type Deps struct {
	Driver     Driver
	VMs        VMs
	Operations Operations
	Snapshots  Snapshots
	// Store keeps what must be cleared up after a daemon that was killed.
	Store store.Store
	// Bridges returns the names of the bridges of the control plane's subnets.
	Bridges func() []string
	// ImageDir is where files for uploads may lie.
	ImageDir string
	// Reserved are directories of the control plane's own, in which no storage pool can be.
	Reserved []string
	Now      func() time.Time
	// Sleep waits, or returns ctx's error; nil = with a timer.
	Sleep func(ctx context.Context, d time.Duration) error
	// NewMAC makes the address of a network card; nil = a random one.
	NewMAC func() string
}

// Service is the VirtualisationService. Make one with New.
type Service struct {
	hypervisorv1.UnimplementedVirtualisationServiceServer
	Deps
	sampler sampler
	uploads sync.Map // begunUpload: those of this process that are under way
}

var _ hypervisorv1.VirtualisationServiceServer = (*Service)(nil)

// New makes the service.
func New(d Deps) *Service {
	if d.Sleep == nil {
		d.Sleep = sleep
	}
	if d.NewMAC == nil {
		d.NewMAC = newMAC
	}
	return &Service{Deps: d, sampler: newSampler()}
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return fault.As(fault.CodeOf(ctx.Err()), ctx.Err(), "measuring")
	}
}

// newMAC makes a random address in the range that QEMU's machines have.
func newMAC() string {
	var b [3]byte
	_, _ = rand.Read(b[:]) // never fails, says its documentation
	return fmt.Sprintf("52:54:00:%02x:%02x:%02x", b[0], b[1], b[2])
}

// find returns the domain that ref names, and the VM that it is, if it is one. A VM's host name or IP address names its domain too.
func (s *Service) find(ctx context.Context, ref string) (hypervisor.Domain, *hypervisorv1.LocalVmInfo, error) {
	if ref == "" {
		return hypervisor.Domain{}, nil, fault.New(fault.InvalidArgument, "domain: is empty; give the domain's UUID or name")
	}
	dom, err := s.Driver.FindDomain(ctx, ref)
	if fault.Is(err, fault.NotFound) {
		record, vmErr := s.VMs.Get(ref)
		if vmErr != nil {
			return dom, nil, err
		}
		if dom, err = s.Driver.FindDomain(ctx, record.GetVmInfo().GetUuid()); fault.Is(err, fault.NotFound) {
			return unstarted(record.GetVmInfo()), record, nil
		}
	}
	if err != nil {
		return dom, nil, err
	}
	return dom, s.vm(dom.UUID), nil
}

// unstarted is the domain that a VM will be: the virtualisation service learns of it when it is started.
func unstarted(info *hypervisorv1.VmInfo) hypervisor.Domain {
	return hypervisor.Domain{
		UUID: info.GetUuid(), Name: info.GetUuid(), State: hypervisor.Off, CPUs: info.GetVirtualCpus(), MemoryBytes: info.GetMemoryInMib() << 20, Persistent: true,
	}
}

// ofVM explains the error of a domain that is not there because its VM was not started yet.
func ofVM(record *hypervisorv1.LocalVmInfo, err error) error {
	if record != nil && fault.Is(err, fault.NotFound) {
		return fault.As(fault.FailedPrecondition, err, "VM %s was not started yet", record.GetVmInfo().GetUuid())
	}
	return err
}

// vm returns the VM with this UUID, or nil.
func (s *Service) vm(uuid string) *hypervisorv1.LocalVmInfo {
	record, err := s.VMs.Get(uuid)
	if err != nil || record.GetVmInfo().GetUuid() != uuid {
		return nil
	}
	return record
}

// unmanaged returns the domain that ref names if it is no VM. instead completes the error for one that is.
func (s *Service) unmanaged(ctx context.Context, ref, action, instead string) (hypervisor.Domain, error) {
	dom, record, err := s.find(ctx, ref)
	if err == nil && record != nil {
		err = fault.New(fault.FailedPrecondition, "domain %q is VM %s of this hypervisor and cannot be %s here; %s", dom.Name, dom.UUID, action, instead)
	}
	return dom, err
}
