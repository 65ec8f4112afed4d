package vsphere

import (
	"context"
	"time"

	"github.com/vmware/govmomi/vim25/types"
)

// poll calls look until it reports done or fails, with pauses that grow up to the poll interval. It is used instead of WaitForUpdates
// because a look can be given up at any time and leaves nothing at the server.
func (c *conn) poll(ctx context.Context, look func() (done bool, err error)) error {
	pause := min(20*time.Millisecond, c.tune.pollEvery)
	timer := time.NewTimer(pause)
	defer timer.Stop()
	for {
		if done, err := look(); done || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-timer.C:
			pause = min(2*pause, c.tune.pollEvery)
			timer.Reset(pause)
		}
	}
}

// waitTask waits for the end of a task and returns its result.
func (c *conn) waitTask(ctx context.Context, task types.ManagedObjectReference) (types.AnyType, error) {
	var result types.AnyType
	err := c.poll(ctx, func() (bool, error) {
		r, err := c.one(ctx, task, "info")
		if err != nil {
			return false, err
		}
		info := prop[types.TaskInfo](r, "info")
		switch info.State {
		case types.TaskInfoStateSuccess:
			result = info.Result
			return true, nil
		case types.TaskInfoStateError:
			failure := types.LocalizedMethodFault{}
			if info.Error != nil {
				failure = *info.Error
			}
			return false, &taskError{failure}
		default:
			return false, nil
		}
	})
	return result, err
}
