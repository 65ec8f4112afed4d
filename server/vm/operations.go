package vm

import (
	"context"
	"time"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
)

// What follows is for the packages that each do one thing to VMs: user data, identities, snapshots, volumes. They declare interfaces of what they need of it.

// Acquire takes the VM's lock and returns the record as it is then. While it is held nobody else changes the VM, and its state does not follow the
// virtualiser. release must be called once. ref is the VM's UUID, an IP address of it, or its name.
func (s *Service) Acquire(ctx context.Context, ref string) (record *hypervisorv1.LocalVmInfo, release func(), err error) {
	return s.lock(ctx, ref)
}

// Change replaces the VM's record with a changed copy, keeps it and publishes it. The caller holds the lock. If change fails, nothing changes.
func (s *Service) Change(ctx context.Context, uuid string, change func(*hypervisorv1.LocalVmInfo) error) (*hypervisorv1.LocalVmInfo, error) {
	return s.registry.Change(ctx, uuid, change)
}

// Directory returns the folder for the VM's files, which is made if it is missing and goes with the VM.
func (s *Service) Directory(uuid string) (string, error) { return s.Volumes.Directory(uuid) }

// Finish runs an operation to its end even if its caller goes away, and returns its error if the caller is still there.
func (s *Service) Finish(ctx context.Context, op func(context.Context) error) error {
	return s.detached(ctx, op)
}

// Require returns FailedPrecondition unless the VM is in one of the states. action completes "can not …".
func Require(info *hypervisorv1.VmInfo, action string, states ...hypervisorv1.State) error {
	return require(info, action, states...)
}

// Name is what an error calls a VM: its host name, or its UUID.
func Name(info *hypervisorv1.VmInfo) string { return name(info) }

// Halt brings a VM that is RUNNING or being debugged to STOPPED, as StopVm does. The caller holds the lock.
func (s *Service) Halt(ctx context.Context, uuid string) error {
	record, err := s.registry.Get(uuid)
	if err != nil {
		return err
	}
	return s.stop(ctx, record.GetVmInfo())
}

// Resume starts a VM that is STOPPED, as StartVm does, and reports whether the guest did not take its address in time. The caller holds the lock.
func (s *Service) Resume(ctx context.Context, uuid string, dhcpTimeout time.Duration) (timedOut bool, err error) {
	return s.resume(ctx, uuid, dhcpTimeout, startOptions{})
}

// ResumeUntested is Resume without a look whether the host can give the memory at present.
func (s *Service) ResumeUntested(ctx context.Context, uuid string, dhcpTimeout time.Duration) (timedOut bool, err error) {
	return s.resume(ctx, uuid, dhcpTimeout, startOptions{untested: true})
}

// ResumeDebugging starts a VM that is STOPPED from the raw volume DebugFile of its root volume, which becomes its first further disk. The VM is then
// DEBUGGING; the debug volume is removed when it is stopped or started. The caller holds the lock.
func (s *Service) ResumeDebugging(ctx context.Context, uuid string, dhcpTimeout time.Duration) (timedOut bool, err error) {
	return s.resume(ctx, uuid, dhcpTimeout, startOptions{debug: true})
}

func (s *Service) resume(ctx context.Context, uuid string, dhcpTimeout time.Duration, o startOptions) (timedOut bool, err error) {
	record, err := s.registry.Get(uuid)
	if err != nil {
		return false, err
	}
	l, err := s.expectLease(uuid, dhcpTimeout)
	if err != nil {
		return false, err
	}
	defer l.stop()
	if err := s.beginStart(ctx, record, o); err != nil {
		return false, err
	}
	s.Network.Lease(uuid, dhcpTimeout >= 0)
	if err := s.start(ctx, uuid, o); err != nil {
		return false, err
	}
	return l.wait(ctx)
}
