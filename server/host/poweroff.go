package host

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/enumtext"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/procexec"
)

// powerOffTime is how long the power-off command may take; what it sets off takes longer.
const powerOffTime = time.Minute

// Programs runs programs. procexec.Runner is one.
type Programs interface {
	Run(ctx context.Context, c procexec.Command) (procexec.Result, error)
}

// PowerOff implements HostService. VMs whose state is anything but stopped prevent it; with stop_vms those that can be stopped are stopped first, and stay so
// if it then fails. The VMs are locked while the command runs, so that none starts.
func (s *Service) PowerOff(ctx context.Context, req *hypervisorv1.PowerOffRequest) (*hypervisorv1.PowerOffResponse, error) {
	if len(s.PowerOffCommand) == 0 {
		return nil, fault.New(fault.FailedPrecondition, "host: has no command to power it off; set power_off_command in its configuration")
	}
	var stopErr error
	if req.GetStopVms() {
		stopErr = s.stopAll(ctx)
	}
	held, release, err := s.acquireAll(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	if err := allStopped(held, req.GetStopVms()); err != nil {
		return nil, errors.Join(err, stopErr)
	}
	// Once begun it goes on without the caller.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), powerOffTime)
	defer cancel()
	if _, err := s.Programs.Run(ctx, procexec.Command{Program: s.PowerOffCommand[0], Args: s.PowerOffCommand[1:]}); err != nil {
		return nil, fault.Wrap(err, "host: power off")
	}
	return &hypervisorv1.PowerOffResponse{}, nil
}

// stopAll stops all VMs that are not stopped, at once: each may take its time.
func (s *Service) stopAll(ctx context.Context) error {
	all := s.VMs.List()
	errs := make([]error, len(all))
	var wg sync.WaitGroup
	for i, info := range all {
		if info.GetState() == hypervisorv1.State_STATE_STOPPED {
			continue
		}
		wg.Go(func() { _, errs[i] = s.Operations.StopVm(ctx, &hypervisorv1.StopVmRequest{Vm: info.GetUuid()}) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// allStopped names the VMs that are not stopped.
func allStopped(all []*hypervisorv1.VmInfo, tried bool) error {
	var left []string
	for _, info := range all {
		if info.GetState() != hypervisorv1.State_STATE_STOPPED {
			left = append(left, info.GetAddress().GetIpAddress()+" ("+enumtext.Of(info.GetState())+")")
		}
	}
	switch {
	case len(left) == 0:
		return nil
	case tried:
		return fault.New(fault.FailedPrecondition, "host: not powered off: these VMs could not be stopped: %s", strings.Join(left, ", "))
	default:
		return fault.New(fault.FailedPrecondition, "host: not powered off: these VMs are not stopped: %s; stop them, or set stop_vms", strings.Join(left, ", "))
	}
}
