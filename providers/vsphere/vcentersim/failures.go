package vcentersim

import (
	"context"

	"github.com/vmware/govmomi/session"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// failure is what calls of one method answer for a while.
type failure struct {
	fault types.BaseMethodFault
	left  int
}

// FailCalls makes the next calls of an API method (by its name, such as CreateSnapshot_Task) fail with the given fault.
func (s *Simulator) FailCalls(method string, with types.BaseMethodFault, times int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failures[method] = &failure{fault: with, left: times}
}

func (s *Simulator) takeFailure(method string) types.BaseMethodFault {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.failures[method]
	if f == nil || f.left == 0 {
		return nil
	}
	f.left--
	return f.fault
}

// EndSessions ends the sessions of all clients, as a restart of the server's service does. Leases that they hold stay until they time out, but
// nobody can renew them.
func (s *Simulator) EndSessions(ctx context.Context) error {
	m := session.NewManager(s.admin.Client)
	own, err := m.UserSession(ctx)
	if err != nil {
		return err
	}
	var all mo.SessionManager
	if err := s.admin.RetrieveOne(ctx, m.Reference(), []string{"sessionList"}, &all); err != nil {
		return err
	}
	var others []string
	for _, one := range all.SessionList {
		if one.Key != own.Key {
			others = append(others, one.Key)
		}
	}
	return m.TerminateSession(ctx, others)
}
