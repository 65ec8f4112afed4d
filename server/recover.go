package server

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/hyperplane-project/hyperplane/server/vm"
)

// retryRecovery is how long the daemon waits for the virtualiser before it asks again.
const retryRecovery = time.Second

// recover ends, once the virtualiser answers, what an earlier daemon has left half-done of VMs' volumes. What can not be ended is logged; the VM concerned does
// not start before it is.
func (s *services) recover(ctx context.Context) error {
	ctx = vm.During(ctx, "recovery")
	for {
		if _, err := s.driver.Host(ctx); err == nil {
			break
		}
		select {
		case <-time.After(retryRecovery):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if err := errors.Join(s.volumes.Recover(ctx), s.snapshot.Recover(ctx), s.appliance.Recover(ctx), s.virt.Recover(ctx)); err != nil && ctx.Err() == nil {
		s.log.LogAttrs(ctx, slog.LevelError, "not everything could be ended that was left half-done", slog.Any("error", err))
	}
	return ctx.Err()
}
