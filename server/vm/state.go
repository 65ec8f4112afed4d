package vm

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"google.golang.org/protobuf/types/known/timestamppb"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/enumtext"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// enter puts a state into the record, with its time.
func (s *Service) enter(info *hypervisorv1.VmInfo, state hypervisorv1.State, reason string) {
	if info.GetState() != state {
		info.ChangedStateOn = timestamppb.New(s.Now())
	}
	info.State, info.StateReason = state, reason
}

// require returns FailedPrecondition unless the VM is in one of the states.
func require(info *hypervisorv1.VmInfo, action string, states ...hypervisorv1.State) error {
	if slices.Contains(states, info.GetState()) {
		return nil
	}
	texts := make([]string, len(states))
	for i, st := range states {
		texts[i] = enumtext.Of(st)
	}
	return fault.New(fault.FailedPrecondition, "vm %s: can not %s: it is %s, and must be %s",
		name(info), action, enumtext.Of(info.GetState()), strings.Join(texts, " or "))
}

// name is what an error calls a VM.
func name(info *hypervisorv1.VmInfo) string {
	if info.GetHostname() != "" {
		return info.GetHostname()
	}
	return info.GetUuid()
}

// states keeps what the virtualiser last said of each machine, and wakes those who wait for a state.
type states struct {
	mu      sync.Mutex
	last    map[string]hypervisor.Event
	changed chan struct{} // closed and replaced at each event
}

func newStates() *states {
	return &states{last: make(map[string]hypervisor.Event), changed: make(chan struct{})}
}

func (s *states) put(e hypervisor.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.Gone {
		delete(s.last, e.UUID)
	} else {
		s.last[e.UUID] = e
	}
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *states) get(uuid string) (e hypervisor.Event, known bool, changed <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, known = s.last[uuid]
	return e, known, s.changed
}

// waitOff returns nil when the machine has no process any more, or the context's error.
func (s *states) waitOff(ctx context.Context, uuid string) error {
	for {
		e, known, changed := s.get(uuid)
		if !known || e.State == hypervisor.Off || e.State == hypervisor.Crashed {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Run follows the virtualiser until ctx ends: what machines do there becomes the VMs' state here. VMs whose creation was interrupted by
// the end of an earlier daemon are removed first.
func (s *Service) Run(ctx context.Context) error {
	events, err := s.Driver.Watch(ctx)
	if err != nil {
		return err
	}
	ctx = During(ctx, "following the virtualiser")
	s.recoverInterrupted(ctx)
	for e := range events {
		s.states.put(e)
		// The lock may be held by an operation for long; it then looks at the last event itself when it ends.
		s.ops.Go(func() { s.follow(ctx, e.UUID) })
	}
	return ctx.Err()
}

// follow brings a VM's state to what the virtualiser last said, once no operation holds the VM.
func (s *Service) follow(ctx context.Context, uuid string) {
	record, unlock, err := s.lock(ctx, uuid)
	if err != nil {
		return // not one of ours, or gone
	}
	defer unlock()
	e, known, _ := s.states.get(uuid)
	info := record.GetVmInfo()
	state, reason := observed(info.GetState(), e, known)
	if state == info.GetState() || s.outdated(ctx, info, e, known) {
		return
	}
	if _, err := s.setState(ctx, uuid, state, reason); err != nil && ctx.Err() == nil {
		s.Log.LogAttrs(ctx, slog.LevelWarn, "state of VM not kept", slog.String("vm", uuid), slog.Any("error", err))
		return
	}
	s.Log.LogAttrs(ctx, slog.LevelInfo, "VM changed its state", slog.String("vm", uuid), slog.String("from", enumtext.Of(info.GetState())),
		slog.String("to", enumtext.Of(state)), slog.String("reason", reason))
	if state == hypervisorv1.State_STATE_STOPPED && info.GetDestroyOnPowerdown() {
		s.background(During(ctx, "destruction on power-down"), "destroy on power-down", uuid, func(ctx context.Context) error { return s.destroy(ctx, uuid, nil) })
	}
}

// outdated says whether an event is about a process of the VM that ended before the one that it has now: the event of that one is still to come.
func (s *Service) outdated(ctx context.Context, info *hypervisorv1.VmInfo, e hypervisor.Event, known bool) bool {
	if !executes(info) || !known || e.State.Alive() {
		return false
	}
	m, err := s.Driver.Get(ctx, info.GetUuid())
	return err == nil && m.State.Alive()
}

// observed returns the state of a VM that no operation holds, from what it was and what the virtualiser says.
func observed(was hypervisorv1.State, e hypervisor.Event, known bool) (hypervisorv1.State, string) {
	switch was {
	case hypervisorv1.State_STATE_EXPORTING, hypervisorv1.State_STATE_MIGRATING, hypervisorv1.State_STATE_FAILED_TO_START:
		if was == hypervisorv1.State_STATE_MIGRATING && e.State == hypervisor.Paused {
			return was, "" // it stands still while it is moved, or because nobody knows whether it has been
		}
		if known && e.State != hypervisor.Off && e.State != hypervisor.Crashed {
			return hypervisorv1.State_STATE_RUNNING, ""
		}
		return was, ""
	default:
	}
	switch {
	case !known && was == hypervisorv1.State_STATE_STOPPED:
		return was, ""
	case !known:
		return hypervisorv1.State_STATE_STOPPED, "the virtualiser no longer knows it"
	case e.State == hypervisor.Crashed:
		return hypervisorv1.State_STATE_CRASHED, "its process ended unexpectedly"
	case e.State == hypervisor.Off && was == hypervisorv1.State_STATE_CRASHED:
		return was, "its process ended unexpectedly"
	case e.State == hypervisor.Off:
		return hypervisorv1.State_STATE_STOPPED, ""
	case was == hypervisorv1.State_STATE_DEBUGGING:
		return was, ""
	case e.State == hypervisor.Stopping:
		return hypervisorv1.State_STATE_STOPPING, ""
	default:
		return hypervisorv1.State_STATE_RUNNING, ""
	}
}
