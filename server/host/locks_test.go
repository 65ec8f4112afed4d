package host_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/host"
)

// locked tells how long each VM's lock could not be had once hold had begun.
func locked(t *testing.T, w *world, hold func()) map[string]time.Duration {
	t.Helper()
	begin := time.Now()
	go hold()
	synctest.Wait()
	waited := make(map[string]time.Duration)
	for _, uuid := range []string{"a", "b", "c"} {
		_, release, err := w.Acquire(t.Context(), uuid)
		if err != nil {
			t.Fatal(err)
		}
		waited[uuid] = time.Since(begin)
		release()
	}
	return waited
}

func newLocks() (*host.Service, *world) {
	w := &world{vms: map[string]hypervisorv1.State{"c": 0, "a": 0, "b": 0, "gone": 0}, gone: "gone"}
	return &host.Service{VMs: w, Operations: w}, w
}

func TestHoldLockHoldsAllVMs(t *testing.T) {
	t.Parallel()
	for _, write := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s, w := newLocks()
			waited := locked(t, w, func() {
				if _, err := s.HoldLock(t.Context(), &hypervisorv1.HoldLockRequest{Timeout: durationpb.New(time.Minute), WriteLock: write}); err != nil {
					t.Error(err)
				}
			})
			for uuid, d := range waited {
				if d != time.Minute {
					t.Errorf("%s was held for %v", uuid, d)
				}
			}
		})
	}
}

func TestHoldVmLockHoldsOneVM(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, w := newLocks()
		waited := locked(t, w, func() {
			if _, err := s.HoldVmLock(t.Context(), &hypervisorv1.HoldVmLockRequest{Vm: "c", Timeout: durationpb.New(2 * time.Second)}); err != nil {
				t.Error(err)
			}
		})
		if waited["a"] != 0 || waited["b"] != 0 || waited["c"] != 2*time.Second {
			t.Errorf("held: %v", waited)
		}
	})
}

func TestHoldEndsWithItsCaller(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, w := newLocks()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		waited := locked(t, w, func() {
			_, err := s.HoldLock(ctx, &hypervisorv1.HoldLockRequest{Timeout: durationpb.New(time.Minute)})
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
		})
		if waited["c"] != time.Second {
			t.Errorf("held: %v", waited)
		}
	})
}

// TestHoldLockThatCanNotHoldAll gives back what it had.
func TestHoldLockThatCanNotHoldAll(t *testing.T) {
	t.Parallel()
	s, w := newLocks()
	_, release, err := w.Acquire(t.Context(), "b")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.HoldLock(ctx, &hypervisorv1.HoldLockRequest{}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	release()
	if _, err := s.HoldLock(t.Context(), &hypervisorv1.HoldLockRequest{}); err != nil {
		t.Error(err)
	}
}

func TestHoldIsBounded(t *testing.T) {
	t.Parallel()
	s, _ := newLocks()
	for _, d := range []time.Duration{-1, time.Minute + 1} {
		if _, err := s.HoldLock(t.Context(), &hypervisorv1.HoldLockRequest{Timeout: durationpb.New(d)}); !fault.Is(err, fault.InvalidArgument) {
			t.Errorf("%v: %v", d, err)
		}
		if _, err := s.HoldVmLock(t.Context(), &hypervisorv1.HoldVmLockRequest{Vm: "a", Timeout: durationpb.New(d)}); !fault.Is(err, fault.InvalidArgument) {
			t.Errorf("%v: %v", d, err)
		}
	}
	if _, err := s.HoldVmLock(t.Context(), &hypervisorv1.HoldVmLockRequest{Vm: "x"}); !fault.Is(err, fault.NotFound) {
		t.Error(err)
	}
}
