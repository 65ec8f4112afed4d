// Package transfer is the VmTransferService: VMs come from other hosts, as copies or for good, and are taken over from and given back to other users of the
// virtualiser.
//
// It is the destination that does the work of a copy or a migration: it calls the source's public API as any client would, with its own certificate and the
// token that the caller has for the VM. So a host needs no right on another but to take a VM out of service (PrepareVmForMigration), and the caller's own
// right is what decides.
//
// A live migration is in addition a dialogue of the two hosts (PeerService): the virtualisers' texts and the streams between the two emulators go through it,
// so nothing but the API's own port is open between hosts.
package transfer

import (
	"context"
	"io"
	"log/slog"
	"time"

	"google.golang.org/grpc"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/principal"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// Operations is what is done with the VMs of this host.
type Operations interface {
	Info(ref string) (*hypervisorv1.VmInfo, error)
	// Acquire takes the VM's lock; release gives it back. Change replaces its record, Enter its state, Finish runs something to its end.
	Acquire(ctx context.Context, ref string) (record *hypervisorv1.LocalVmInfo, release func(), err error)
	Change(ctx context.Context, uuid string, change func(*hypervisorv1.LocalVmInfo) error) (*hypervisorv1.LocalVmInfo, error)
	Enter(ctx context.Context, uuid string, state hypervisorv1.State, reason string) error
	Finish(ctx context.Context, op func(context.Context) error) error
	// Admit makes a VM known that comes here, and locks it; it is here for good after Settle and gone without a trace after Discard.
	Admit(ctx context.Context, info *hypervisorv1.VmInfo, caller principal.Caller, memory bool) (release func(), err error)
	Settle(ctx context.Context, uuid string) error
	Discard(ctx context.Context, uuid string) error
	// GiveAddresses and TakeAddresses put a VM's addresses into use and out of it.
	GiveAddresses(info *hypervisorv1.VmInfo, caller principal.Caller) error
	TakeAddresses(uuid string)
	// SurrenderAddresses takes a VM's addresses out of the host's pools too, AdoptAddresses puts them there.
	SurrenderAddresses(ctx context.Context, uuid string) error
	AdoptAddresses(ctx context.Context, uuid string) error
	// CheckLease refuses a wait for a VM's lease that nobody would see.
	CheckLease(uuid string, timeout time.Duration) error
	// Resume starts a STOPPED VM and Halt stops a RUNNING one. The caller holds the lock. ResumeUntested does not look whether the host can give the memory
	// at present.
	Resume(ctx context.Context, uuid string, dhcpTimeout time.Duration) (timedOut bool, err error)
	ResumeUntested(ctx context.Context, uuid string, dhcpTimeout time.Duration) (timedOut bool, err error)
	Halt(ctx context.Context, uuid string) error
	// MachineSpec returns what a start would define, and makes the subnets ready.
	MachineSpec(ctx context.Context, uuid string) (hypervisor.Spec, error)
	// Directory returns the folder for a VM's files.
	Directory(uuid string) (string, error)
}

// UserData keeps user data in VMs' folders.
type UserData interface {
	Put(uuid string, content []byte) error
}

// Dialer connects to other hosts.
type Dialer interface {
	// Dial makes a connection to host:port. FailedPrecondition if this host was not told how to prove itself to others.
	Dial(ctx context.Context, address string) (Conn, error)
}

// Conn is a connection to another host.
type Conn interface {
	grpc.ClientConnInterface
	io.Closer
}

// Cookie is what shows that a caller is root on this host.
type Cookie interface {
	Check(shown []byte) error
}

// Service is the VmTransferService and the PeerService.
type Service struct {
	hypervisorv1.UnimplementedVmTransferServiceServer
	hypervisorv1.UnimplementedPeerServiceServer
	Log        *slog.Logger
	Operations Operations
	UserData   UserData
	Machines   Machines
	Files      Files
	Bridges    Bridges
	Hosts      Dialer
	Cookie     Cookie
	Now        func() time.Time
	NewUUID    func() string

	sessions sessions
}

var (
	_ hypervisorv1.VmTransferServiceServer = (*Service)(nil)
	_ hypervisorv1.PeerServiceServer       = (*Service)(nil)
)
