package host

import (
	"cmp"
	"context"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// longestHold is how long a lock may be held.
const longestHold = time.Minute

// VMs knows the VMs.
type VMs interface {
	List() []*hypervisorv1.VmInfo
}

// Operations is what is done to VMs.
type Operations interface {
	// Acquire takes a VM's lock; release gives it back.
	Acquire(ctx context.Context, ref string) (record *hypervisorv1.LocalVmInfo, release func(), err error)
	// StopVm returns when the VM is stopped.
	StopVm(ctx context.Context, req *hypervisorv1.StopVmRequest) (*hypervisorv1.StopVmResponse, error)
}

// HoldLock implements HostService. The host's state has no one lock: it is that of its VMs, so every VM's lock is held. Changes of VMs wait; what only reads
// never waits for a lock, so the lock for writing stops no more than the one for reading. A VM that is made meanwhile is not held.
func (s *Service) HoldLock(ctx context.Context, req *hypervisorv1.HoldLockRequest) (*hypervisorv1.HoldLockResponse, error) {
	if err := checkHold(req.GetTimeout()); err != nil {
		return nil, err
	}
	_, release, err := s.acquireAll(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	if err := wait(ctx, req.GetTimeout().AsDuration()); err != nil {
		return nil, err
	}
	return &hypervisorv1.HoldLockResponse{}, nil
}

// HoldVmLock implements HostService. As with HoldLock, both locks stop what changes the VM and nothing else.
func (s *Service) HoldVmLock(ctx context.Context, req *hypervisorv1.HoldVmLockRequest) (*hypervisorv1.HoldVmLockResponse, error) {
	if err := checkHold(req.GetTimeout()); err != nil {
		return nil, err
	}
	_, release, err := s.Operations.Acquire(ctx, req.GetVm())
	if err != nil {
		return nil, err
	}
	defer release()
	if err := wait(ctx, req.GetTimeout().AsDuration()); err != nil {
		return nil, err
	}
	return &hypervisorv1.HoldVmLockResponse{}, nil
}

func checkHold(timeout *durationpb.Duration) error {
	if d := timeout.AsDuration(); d < 0 || d > longestHold {
		return fault.New(fault.InvalidArgument, "timeout: %v; give at most %v", d, longestHold)
	}
	return nil
}

// wait returns nil after d, or the context's error if it ends first.
func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// acquireAll takes the locks of all VMs, in one order so that two of its kind do not wait for each other, and returns the VMs as they are then.
func (s *Service) acquireAll(ctx context.Context) (held []*hypervisorv1.VmInfo, release func(), err error) {
	var releases []func()
	release = func() {
		for _, r := range slices.Backward(releases) {
			r()
		}
	}
	all := slices.SortedFunc(slices.Values(s.VMs.List()), func(a, b *hypervisorv1.VmInfo) int { return cmp.Compare(a.GetUuid(), b.GetUuid()) })
	for _, info := range all {
		record, r, err := s.Operations.Acquire(ctx, info.GetUuid())
		if fault.Is(err, fault.NotFound) {
			continue // it has gone meanwhile
		}
		if err != nil {
			release()
			return nil, nil, err
		}
		releases, held = append(releases, r), append(held, record.GetVmInfo())
	}
	return held, release, nil
}
