package vm

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"time"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// startOptions are how this start differs from others.
type startOptions struct {
	netboot bool // the network comes before the disks
	debug   bool // the debug volume comes before the others
	// untested does not look whether the host can give the memory at present.
	untested bool
}

// StartVm implements VmService. A VM that is being debugged is stopped first.
func (s *Service) StartVm(ctx context.Context, req *hypervisorv1.StartVmRequest) (*hypervisorv1.StartVmResponse, error) {
	var l lease
	err := s.detached(ctx, func(ctx context.Context) error {
		record, unlock, err := s.lock(ctx, req.GetVm())
		if err != nil {
			return err
		}
		defer unlock()
		expected, err := s.expectLease(record.GetVmInfo().GetUuid(), req.GetDhcpTimeout().AsDuration())
		if err != nil {
			return err
		}
		if record, err = s.endDebugging(ctx, record); err == nil {
			err = s.beginStart(ctx, record, startOptions{})
		}
		if err != nil {
			expected.stop()
			return err
		}
		s.Network.Lease(record.GetVmInfo().GetUuid(), req.GetDhcpTimeout().AsDuration() >= 0)
		if err := s.start(ctx, record.GetVmInfo().GetUuid(), startOptions{}); err != nil {
			expected.stop()
			return err
		}
		l = expected
		return nil
	})
	if err != nil {
		return nil, err
	}
	defer l.stop()
	timedOut, err := l.wait(ctx)
	if err != nil {
		return nil, err
	}
	return &hypervisorv1.StartVmResponse{DhcpTimedOut: timedOut}, nil
}

// StartVmAsync implements VmService.
func (s *Service) StartVmAsync(ctx context.Context, req *hypervisorv1.StartVmAsyncRequest) (*hypervisorv1.StartVmAsyncResponse, error) {
	record, unlock, err := s.lock(ctx, req.GetVm())
	if err != nil {
		return nil, err
	}
	uuid := record.GetVmInfo().GetUuid()
	if record, err = s.endDebugging(ctx, record); err == nil {
		err = s.beginStart(ctx, record, startOptions{})
	}
	if err != nil {
		unlock()
		return nil, err
	}
	s.background(ctx, "start", uuid, func(ctx context.Context) error {
		defer unlock()
		return s.start(ctx, uuid, startOptions{})
	})
	info, err := s.registry.Info(uuid)
	return &hypervisorv1.StartVmAsyncResponse{VmInfo: info}, err
}

// endDebugging stops a VM that is being debugged. The caller holds the lock.
func (s *Service) endDebugging(ctx context.Context, record *hypervisorv1.LocalVmInfo) (*hypervisorv1.LocalVmInfo, error) {
	if record.GetVmInfo().GetState() != hypervisorv1.State_STATE_DEBUGGING {
		return record, nil
	}
	if err := s.stop(ctx, record.GetVmInfo()); err != nil {
		return nil, err
	}
	return s.registry.Get(record.GetVmInfo().GetUuid())
}

// beginStart checks whether the VM can start and makes it STARTING. The caller holds the lock.
func (s *Service) beginStart(ctx context.Context, record *hypervisorv1.LocalVmInfo, o startOptions) error {
	info := record.GetVmInfo()
	err := require(info, "start", hypervisorv1.State_STATE_STOPPED, hypervisorv1.State_STATE_FAILED_TO_START,
		hypervisorv1.State_STATE_EXPORTING, hypervisorv1.State_STATE_CRASHED)
	if err != nil {
		return err
	}
	if err := s.enabled(); err != nil {
		return err
	}
	if s.BeforeStart != nil {
		if _, err := s.BeforeStart(ctx, record); err != nil {
			return fault.Wrap(err, "vm %s: start", name(info))
		}
	}
	s.capacity.Lock()
	defer s.capacity.Unlock()
	if err := s.checkMemory(ctx, info, !o.untested); err != nil {
		return err
	}
	_, err = s.setState(ctx, info.GetUuid(), hypervisorv1.State_STATE_STARTING, "")
	return err
}

// start defines and starts a STARTING VM; it ends RUNNING, DEBUGGING or FAILED_TO_START. The caller holds the lock.
func (s *Service) start(ctx context.Context, uuid string, o startOptions) error {
	record, err := s.registry.Get(uuid)
	if err != nil {
		return err
	}
	err = s.startMachine(ctx, record, o)
	if err != nil {
		_, stateErr := s.setState(ctx, uuid, hypervisorv1.State_STATE_FAILED_TO_START, err.Error())
		return fault.Wrap(errJoin(err, stateErr), "vm %s: start", name(record.GetVmInfo()))
	}
	state := hypervisorv1.State_STATE_RUNNING
	if o.debug {
		state = hypervisorv1.State_STATE_DEBUGGING
	}
	_, err = s.setState(ctx, uuid, state, "")
	return err
}

func (s *Service) startMachine(ctx context.Context, record *hypervisorv1.LocalVmInfo, o startOptions) error {
	spec, err := s.spec(ctx, record)
	if err != nil {
		return err
	}
	spec.NetBoot = o.netboot
	if o.debug {
		debug := spec.Disks[0]
		debug.File, debug.Format = DebugFile(record.GetVolumeLocations()[0].GetFilename()), hypervisor.DiskRaw
		spec.Disks = append([]hypervisor.Disk{debug}, spec.Disks...)
	} else if err := dropDebugVolume(record); err != nil {
		return err
	}
	if err := s.Driver.Define(ctx, spec); err != nil {
		return err
	}
	return s.Driver.Start(ctx, spec.UUID)
}

// dropDebugVolume removes the volume that a VM was debugged from, if there is one.
func dropDebugVolume(record *hypervisorv1.LocalVmInfo) error {
	if len(record.GetVolumeLocations()) == 0 {
		return nil
	}
	err := os.Remove(DebugFile(record.GetVolumeLocations()[0].GetFilename()))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return fault.Wrap(err, "vm %s: debug volume", name(record.GetVmInfo()))
}

// lease is the wait for a guest to take its address. The zero value waits for nothing.
type lease struct {
	done    <-chan struct{}
	release func()
	timeout time.Duration
}

// expectLease begins to look for the guest's acknowledged address, before anything is done to the guest: where nobody would see that, it is refused. Whoever starts
// the guest then says by Network.Lease that the DHCP server answers it, or not if the timeout is negative.
func (s *Service) expectLease(uuid string, timeout time.Duration) (lease, error) {
	if timeout <= 0 {
		return lease{}, nil
	}
	done, release, err := s.Network.Acknowledged(uuid)
	return lease{done, release, timeout}, err
}

// CheckLease refuses a wait for a VM's lease that nobody would see, for operations that start the VM only at their end.
func (s *Service) CheckLease(uuid string, timeout time.Duration) error {
	l, err := s.expectLease(uuid, timeout)
	l.stop()
	return err
}

// stop ends the look-out. It may be called again.
func (l lease) stop() {
	if l.release != nil {
		l.release()
	}
}

// wait returns when the guest has its address, or when it took too long, which is no error.
func (l lease) wait(ctx context.Context) (timedOut bool, err error) {
	if l.done == nil {
		return false, nil
	}
	patience, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	select {
	case <-l.done:
		return false, nil
	case <-patience.Done():
		return true, ctx.Err()
	}
}
