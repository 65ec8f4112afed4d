package host

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/store"
)

// disabledKey is there in the store while the host is disabled.
const disabledKey = "host/disabled"

// Switch says whether the host accepts new VMs and starts. It survives a restart.
type Switch struct {
	store    store.Store
	setting  sync.Mutex
	disabled atomic.Bool
}

// OpenSwitch reads the switch from the store.
func OpenSwitch(ctx context.Context, s store.Store) (*Switch, error) {
	sw := &Switch{store: s}
	err := s.View(ctx, func(r store.Reader) error {
		_, err := r.Get(disabledKey)
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		sw.disabled.Store(err == nil)
		return err
	})
	return sw, fault.Wrap(err, "state: %s", disabledKey)
}

// Disabled says whether new VMs and starts must be refused.
func (s *Switch) Disabled() bool { return s.disabled.Load() }

// Set turns the switch. On error it is where it was.
func (s *Switch) Set(ctx context.Context, disabled bool) error {
	s.setting.Lock()
	defer s.setting.Unlock()
	_, err := s.store.Update(ctx, func(w store.Writer) error {
		if disabled {
			return w.Put(disabledKey, nil)
		}
		return w.Delete(disabledKey)
	})
	if err != nil {
		return fault.Wrap(err, "state: %s", disabledKey)
	}
	s.disabled.Store(disabled)
	return nil
}

// SetDisabledState implements HostService. VMs that run go on.
func (s *Service) SetDisabledState(
	ctx context.Context, req *hypervisorv1.SetDisabledStateRequest,
) (*hypervisorv1.SetDisabledStateResponse, error) {
	if err := s.Switch.Set(ctx, req.GetDisable()); err != nil {
		return nil, err
	}
	s.publish(ctx)
	return &hypervisorv1.SetDisabledStateResponse{}, nil
}
