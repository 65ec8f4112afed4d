package transfer

import (
	"context"
	"time"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/enumtext"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// takeOut takes the VM out of service. Sources of the Dominator ecosystem tell a caller without access that they have done it: so the VM itself is asked.
func (src *source) takeOut(ctx context.Context) error {
	if err := src.prepare(ctx, true); err != nil {
		return err
	}
	state, err := src.state(ctx)
	if err == nil && state != hypervisorv1.State_STATE_MIGRATING {
		err = fault.New(fault.PermissionDenied, "source_hypervisor %s: says that the VM was taken out of service, but it is %s: access_token may be wrong", src.address, enumtext.Of(state))
	}
	return err
}

// state asks for the VM's state, and waits while it is being stopped: a stop whose caller has gone goes on.
func (src *source) state(ctx context.Context) (hypervisorv1.State, error) {
	again := time.NewTicker(stopPoll)
	defer again.Stop()
	for {
		res, err := src.vms.GetVmInfo(ctx, &hypervisorv1.GetVmInfoRequest{Vm: src.ref()})
		if state := res.GetVmInfo().GetState(); err != nil || state != hypervisorv1.State_STATE_STOPPING {
			return state, src.fault(err, "ask for the VM's state")
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

const (
	// putBackTime bounds a step that makes good at the source what a move has done: a source that says nothing must not keep what is left here.
	putBackTime = 3 * time.Minute
	// stopPoll is the pause between two questions for the state of a VM that is being stopped.
	stopPoll = 200 * time.Millisecond
)

// putBack puts the VM back into service unless it is in service.
func (src *source) putBack(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, putBackTime)
	defer cancel()
	if state, err := src.state(ctx); err == nil && state != hypervisorv1.State_STATE_MIGRATING {
		return nil
	}
	return src.prepare(ctx, false)
}

// startAgain starts the VM at the source unless it runs.
func (src *source) startAgain(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, putBackTime)
	defer cancel()
	if state, err := src.state(ctx); err == nil && state == hypervisorv1.State_STATE_RUNNING {
		return nil
	}
	return src.start(ctx)
}
