package vm

import (
	"context"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// DefaultLockPatience is how long a caller waits for a VM that another operation holds. It is more than a guest may take to power off.
const DefaultLockPatience = 30 * time.Second

// holders knows which operation holds which VM. The zero value is ready to use.
type holders struct {
	mu   sync.Mutex
	byVM map[string]holder
}

type holder struct {
	operation string
	since     time.Time
}

func (h *holders) enter(uuid string, by holder) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.byVM == nil {
		h.byVM = make(map[string]holder)
	}
	h.byVM[uuid] = by
}

func (h *holders) leave(uuid string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.byVM, uuid)
}

// get returns who holds the VM; known is false in the moment between two holders.
func (h *holders) get(uuid string) (by holder, known bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	by, known = h.byVM[uuid]
	return by, known
}

type ownWorkKey struct{}

// During returns a context for work that the host does by itself. what names it to those who wait for a VM that it holds; it has itself no
// caller who waits, so it waits for a VM as long as it must.
func During(ctx context.Context, what string) context.Context {
	return context.WithValue(ctx, ownWorkKey{}, what)
}

// operation names what is done with a context: the method called, or the host's own work.
func operation(ctx context.Context) (name string, ownWork bool) {
	if name, ok := ctx.Value(ownWorkKey{}).(string); ok {
		return name, true
	}
	if method, ok := grpc.Method(ctx); ok {
		return method[strings.LastIndexByte(method, '/')+1:], false
	}
	return "another operation", false
}

// lock takes the VM's lock and returns the record as it is then.
func (s *Service) lock(ctx context.Context, ref string) (*hypervisorv1.LocalVmInfo, func(), error) {
	record, err := s.registry.Get(ref)
	if err != nil {
		return nil, nil, err
	}
	uuid := record.GetVmInfo().GetUuid()
	unlock, err := s.hold(ctx, uuid, name(record.GetVmInfo()))
	if err != nil {
		return nil, nil, err
	}
	if record, err = s.registry.Get(uuid); err != nil {
		unlock()
		return nil, nil, err
	}
	return record, unlock, nil
}

// hold takes the lock of a VM that need not be known yet. Aborted if somebody else holds it for too long.
func (s *Service) hold(ctx context.Context, uuid, called string) (unlock func(), err error) {
	what, ownWork := operation(ctx)
	patience, cancel := ctx, context.CancelFunc(func() {})
	if !ownWork {
		patience, cancel = context.WithTimeout(ctx, s.LockPatience)
	}
	defer cancel()
	release, err := s.locks.Lock(patience, uuid)
	if err != nil {
		return nil, s.busy(ctx, uuid, called)
	}
	s.holders.enter(uuid, holder{what, s.Now()})
	return func() { s.holders.leave(uuid); release() }, nil
}

// busy says who holds a VM that was waited for in vain.
func (s *Service) busy(ctx context.Context, uuid, called string) error {
	by := "another operation holds it"
	if h, known := s.holders.get(uuid); known {
		by = h.operation + " has held it for " + max(0, s.Now().Sub(h.since)).Round(time.Second).String()
	}
	if err := ctx.Err(); err != nil {
		return fault.Wrap(err, "vm %s: mutations blocked: %s", called, by)
	}
	return fault.New(fault.Aborted, "vm %s: mutations blocked: %s; try again when that has ended", called, by)
}
