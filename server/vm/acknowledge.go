package vm

import (
	"context"
	"sync"
	"time"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// acknowledgements are the VMs that are destroyed unless their creator says that it knows of them. They are not kept over a restart: a VM that
// somebody may have acknowledged is never destroyed. The zero value is ready to use.
type acknowledgements struct {
	mu     sync.Mutex
	byVM   map[string]*acknowledgement
	closed bool
}

type acknowledgement struct {
	stop func()
	late bool // the time is over, the destruction has begun
}

// ArmAcknowledgement has the VM destroyed after d unless AcknowledgeVm is called before. A second call starts the time anew. A VM that is
// protected against destruction while it runs stays.
func (s *Service) ArmAcknowledgement(ctx context.Context, uuid string, d time.Duration) {
	ctx = During(context.WithoutCancel(ctx), "destruction of a VM that was not acknowledged")
	s.awaited.mu.Lock()
	defer s.awaited.mu.Unlock()
	if s.awaited.closed {
		return
	}
	if old := s.awaited.byVM[uuid]; old != nil {
		if old.late {
			return
		}
		old.stop()
	}
	if s.awaited.byVM == nil {
		s.awaited.byVM = make(map[string]*acknowledgement)
	}
	a := new(acknowledgement)
	s.awaited.byVM[uuid] = a
	a.stop = s.AfterFunc(d, func() { s.notAcknowledged(ctx, uuid, a) })
}

func (s *Service) notAcknowledged(ctx context.Context, uuid string, a *acknowledgement) {
	s.awaited.mu.Lock()
	defer s.awaited.mu.Unlock()
	if s.awaited.closed || s.awaited.byVM[uuid] != a {
		return
	}
	a.late = true
	// Begun under the mutex, so that close does not wait for operations before this one is among them.
	s.background(ctx, "destroy a VM that was not acknowledged", uuid, func(ctx context.Context) error {
		defer s.awaited.forget(uuid, a)
		return s.destroy(ctx, uuid, nil)
	})
}

// forget forgets an acknowledgement if it is still the one that is waited for.
func (a *acknowledgements) forget(uuid string, which *acknowledgement) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.byVM[uuid] == which {
		delete(a.byVM, uuid)
	}
}

// take ends the wait for a VM's acknowledgement; late says that it is too late for that.
func (a *acknowledgements) take(uuid string) (late bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	waiting := a.byVM[uuid]
	if waiting == nil {
		return false
	}
	if !waiting.late {
		waiting.stop()
		delete(a.byVM, uuid)
	}
	return waiting.late
}

func (a *acknowledgements) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
	for _, waiting := range a.byVM {
		waiting.stop()
	}
}

// AcknowledgeVm implements VmService. It does not wait for the VM's lock: its creator may still hold that.
func (s *Service) AcknowledgeVm(_ context.Context, req *hypervisorv1.AcknowledgeVmRequest) (*hypervisorv1.AcknowledgeVmResponse, error) {
	info, err := s.registry.Info(req.GetVm())
	if err != nil {
		return nil, err
	}
	if s.awaited.take(info.GetUuid()) {
		return nil, fault.New(fault.FailedPrecondition, "vm %s: the acknowledgement is too late, it is being destroyed; create it anew", name(info))
	}
	return &hypervisorv1.AcknowledgeVmResponse{}, nil
}
