package vm

import (
	"context"
	"time"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// powerDownTime is how long a guest may take to power off before it is killed.
const powerDownTime = 15 * time.Second

// StopVm implements VmService.
func (s *Service) StopVm(ctx context.Context, req *hypervisorv1.StopVmRequest) (*hypervisorv1.StopVmResponse, error) {
	err := s.detached(ctx, func(ctx context.Context) error {
		record, unlock, err := s.lock(ctx, req.GetVm())
		if err != nil {
			return err
		}
		defer unlock()
		return s.stop(ctx, record.GetVmInfo())
	})
	if err != nil {
		return nil, err
	}
	return &hypervisorv1.StopVmResponse{}, nil
}

// stop brings a VM to STOPPED. The caller holds the lock.
func (s *Service) stop(ctx context.Context, info *hypervisorv1.VmInfo) error {
	uuid := info.GetUuid()
	switch info.GetState() {
	case hypervisorv1.State_STATE_FAILED_TO_START, hypervisorv1.State_STATE_CRASHED:
		_, err := s.setState(ctx, uuid, hypervisorv1.State_STATE_STOPPED, "")
		return err
	default:
	}
	if err := require(info, "stop", hypervisorv1.State_STATE_RUNNING, hypervisorv1.State_STATE_DEBUGGING); err != nil {
		return err
	}
	if _, err := s.setState(ctx, uuid, hypervisorv1.State_STATE_STOPPING, ""); err != nil {
		return err
	}
	if err := s.powerDown(ctx, uuid); err != nil {
		_, stateErr := s.setState(ctx, uuid, info.GetState(), "could not be stopped: "+err.Error())
		return fault.Wrap(errJoin(err, stateErr), "vm %s: stop", name(info))
	}
	record, err := s.setState(ctx, uuid, hypervisorv1.State_STATE_STOPPED, "")
	if err == nil && info.GetState() == hypervisorv1.State_STATE_DEBUGGING {
		err = dropDebugVolume(record)
	}
	return err
}

// powerDown asks the guest to power off and kills it if it does not.
func (s *Service) powerDown(ctx context.Context, uuid string) error {
	if err := s.Driver.Shutdown(ctx, uuid); err == nil {
		patience, cancel := context.WithTimeout(ctx, powerDownTime)
		defer cancel()
		if s.states.waitOff(patience, uuid) == nil {
			return nil
		}
	} else if !fault.Is(err, fault.FailedPrecondition) {
		return err
	}
	return s.Driver.Kill(ctx, uuid)
}

// RebootVm implements VmService.
func (s *Service) RebootVm(ctx context.Context, req *hypervisorv1.RebootVmRequest) (*hypervisorv1.RebootVmResponse, error) {
	l, err := s.reboot(ctx, req.GetVm(), req.GetDhcpTimeout().AsDuration())
	defer l.stop()
	if err != nil {
		return nil, err
	}
	timedOut, err := l.wait(ctx)
	if err != nil {
		return nil, err
	}
	return &hypervisorv1.RebootVmResponse{DhcpTimedOut: timedOut}, nil
}

func (s *Service) reboot(ctx context.Context, ref string, dhcpTimeout time.Duration) (lease, error) {
	record, unlock, err := s.lock(ctx, ref)
	if err != nil {
		return lease{}, err
	}
	defer unlock()
	info := record.GetVmInfo()
	if err := require(info, "reboot", hypervisorv1.State_STATE_RUNNING); err != nil {
		return lease{}, err
	}
	l, err := s.expectLease(info.GetUuid(), dhcpTimeout)
	if err != nil {
		return l, err
	}
	s.Network.Lease(info.GetUuid(), dhcpTimeout >= 0)
	return l, fault.Wrap(s.Driver.Reboot(ctx, info.GetUuid()), "vm %s: reboot", name(info))
}

// DestroyVm implements VmService.
func (s *Service) DestroyVm(ctx context.Context, req *hypervisorv1.DestroyVmRequest) (*hypervisorv1.DestroyVmResponse, error) {
	err := s.detached(ctx, func(ctx context.Context) error { return s.destroy(ctx, req.GetVm(), nil) })
	if err != nil {
		return nil, err
	}
	return &hypervisorv1.DestroyVmResponse{}, nil
}

// DestroyVmAsync implements VmService.
func (s *Service) DestroyVmAsync(ctx context.Context, req *hypervisorv1.DestroyVmAsyncRequest) (*hypervisorv1.DestroyVmAsyncResponse, error) {
	begun := make(chan *hypervisorv1.VmInfo, 1)
	failed := make(chan error, 1)
	s.background(ctx, "destroy", req.GetVm(), func(ctx context.Context) error {
		err := s.destroy(ctx, req.GetVm(), begun)
		failed <- err
		return err
	})
	select {
	case info := <-begun:
		return &hypervisorv1.DestroyVmAsyncResponse{VmInfo: info}, nil
	case err := <-failed:
		select { // both may be ready
		case info := <-begun:
			return &hypervisorv1.DestroyVmAsyncResponse{VmInfo: info}, nil
		default:
			return nil, err
		}
	}
}

// destroy removes a VM with everything it has. begun, if not nil, receives the VM once its destruction can no longer be refused.
func (s *Service) destroy(ctx context.Context, ref string, begun chan<- *hypervisorv1.VmInfo) error {
	record, unlock, err := s.lock(ctx, ref)
	if err != nil {
		return err
	}
	defer unlock()
	info := record.GetVmInfo()
	if executes(info) && info.GetDestroyProtection() {
		return fault.New(fault.FailedPrecondition, "vm %s: is running and protected; stop it or clear its destroy protection first", name(info))
	}
	err = require(info, "destroy", hypervisorv1.State_STATE_RUNNING, hypervisorv1.State_STATE_DEBUGGING, hypervisorv1.State_STATE_STOPPED,
		hypervisorv1.State_STATE_FAILED_TO_START, hypervisorv1.State_STATE_MIGRATING, hypervisorv1.State_STATE_EXPORTING,
		hypervisorv1.State_STATE_CRASHED)
	if err != nil {
		return err
	}
	if info.GetState() == hypervisorv1.State_STATE_MIGRATING { // whoever destroys what a VM has left behind says that it is elsewhere
		if err := s.Network.Surrender(ctx, info.GetUuid()); err != nil {
			return err
		}
	}
	if record, err = s.setState(ctx, info.GetUuid(), hypervisorv1.State_STATE_DESTROYING, ""); err != nil {
		return err
	}
	if begun != nil {
		begun <- record.GetVmInfo()
	}
	if err := s.remove(ctx, info.GetUuid()); err != nil {
		_, stateErr := s.setState(ctx, info.GetUuid(), hypervisorv1.State_STATE_CRASHED, "could not be destroyed: "+err.Error())
		return fault.Wrap(errJoin(err, stateErr), "vm %s: destroy", name(info))
	}
	return nil
}

// remove takes away the machine, its files, its addresses and its record, in this order, so that a repetition finds what is left.
func (s *Service) remove(ctx context.Context, uuid string) error {
	if err := s.Driver.Kill(ctx, uuid); err != nil && !fault.Is(err, fault.NotFound) {
		return err
	}
	if err := s.Driver.Undefine(ctx, uuid); err != nil {
		return err
	}
	if s.Identity != nil {
		if err := s.Identity.Drop(ctx, uuid); err != nil {
			return err
		}
	}
	if err := s.Volumes.RemoveDirectory(uuid); err != nil {
		return err
	}
	s.Network.Release(uuid)
	s.awaited.take(uuid)
	return s.registry.Remove(ctx, uuid)
}

// enabled refuses what a disabled host does not do. The text is the one that clients of old look for.
func (s *Service) enabled() error {
	if s.Disabled != nil && s.Disabled() {
		return fault.New(fault.FailedPrecondition, "Hypervisor is disabled")
	}
	return nil
}

// checkMemory refuses a start for which the host has not enough memory beside its other VMs; with test, also one for which others than VMs leave too little
// at present. The caller holds capacity.
func (s *Service) checkMemory(ctx context.Context, info *hypervisorv1.VmInfo, test bool) error {
	c, err := s.Capacity(ctx)
	if err != nil {
		return err
	}
	want := info.GetMemoryInMib()
	if want > c.GetAvailableMemoryInMib() {
		return fault.New(fault.ResourceExhausted, "vm %s: wants %d MiB of memory, the host has %d MiB left", name(info), want, c.GetAvailableMemoryInMib())
	}
	if !test {
		return nil
	}
	host, err := s.Driver.Host(ctx)
	if free := host.FreeBytes >> 20; err == nil && want > free {
		err = fault.New(fault.ResourceExhausted, "vm %s: wants %d MiB of memory, the host can give %d MiB at present: what is not VMs uses the rest", name(info), want, free)
	}
	return err
}

// Capacity returns the host's figures as far as VMs decide them; the space for volumes is the host service's business.
func (s *Service) Capacity(ctx context.Context) (*hypervisorv1.GetCapacityResponse, error) {
	host, err := s.Driver.Host(ctx)
	if err != nil {
		return nil, err
	}
	total := host.MemoryBytes >> 20
	var used uint64
	for _, info := range s.registry.List() {
		if usesMemory(info.GetState()) {
			used += info.GetMemoryInMib()
		}
	}
	return &hypervisorv1.GetCapacityResponse{
		MemoryInMib: total, AvailableMemoryInMib: total - min(total, used), NumCpus: host.CPUs,
	}, nil
}

// usesMemory says whether a VM in this state has, or is about to have, a process.
func usesMemory(state hypervisorv1.State) bool {
	switch state {
	case hypervisorv1.State_STATE_STOPPED, hypervisorv1.State_STATE_FAILED_TO_START, hypervisorv1.State_STATE_CRASHED,
		hypervisorv1.State_STATE_EXPORTING, hypervisorv1.State_STATE_MIGRATING:
		return false
	default:
		return true
	}
}
