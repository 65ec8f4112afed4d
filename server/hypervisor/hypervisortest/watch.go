package hypervisortest

import (
	"context"
	"time"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// watch starts a watch that ends with the test.
func (t *suite) watch() <-chan hypervisor.Event {
	t.Helper()
	events, err := t.Driver.Watch(t.Context())
	t.must(err)
	return events
}

// next returns the next event of one machine.
func (t *suite) next(events <-chan hypervisor.Event, id string) hypervisor.Event {
	t.Helper()
	timer := time.NewTimer(t.Patience)
	defer timer.Stop()
	for {
		select {
		case ev, open := <-events:
			if !open {
				t.Fatal("the watch ended")
			}
			if ev.UUID == id {
				return ev
			}
		case <-timer.C:
			t.Fatal("no event in time")
		}
	}
}

// until reads events until one of the machine satisfies ok.
func (t *suite) until(events <-chan hypervisor.Event, id string, ok func(hypervisor.Event) bool) {
	t.Helper()
	for !ok(t.next(events, id)) {
	}
}

func in(s hypervisor.State) func(hypervisor.Event) bool {
	return func(ev hypervisor.Event) bool { return ev.State == s && !ev.Gone }
}

func watchBeginsWithEveryMachine(t *suite) {
	off, running := blank(), blank()
	t.define(off)
	t.start(running)
	for id, want := range map[string]hypervisor.State{off.UUID: hypervisor.Off, running.UUID: hypervisor.Running} {
		ev := t.next(t.watch(), id)
		if ev.State != want || ev.Gone || ev.At.IsZero() {
			t.Errorf("the first event is %+v, not %s", ev, want)
		}
	}
}

func watchFollowsChanges(t *suite) {
	spec, ctx := blank(), t.Context()
	first, second := t.watch(), t.watch()
	for _, events := range []<-chan hypervisor.Event{first, second} {
		t.define(spec)
		t.until(events, spec.UUID, in(hypervisor.Off))
		t.must(t.Driver.Start(ctx, spec.UUID))
		t.until(events, spec.UUID, in(hypervisor.Running))
		t.must(t.Driver.Shutdown(ctx, spec.UUID))
		t.until(events, spec.UUID, in(hypervisor.Stopping))
		t.must(t.Driver.Kill(ctx, spec.UUID))
		t.until(events, spec.UUID, in(hypervisor.Off))
		t.must(t.Driver.Undefine(ctx, spec.UUID))
		t.until(events, spec.UUID, func(ev hypervisor.Event) bool { return ev.Gone })
	}
}

func watchSparesSlowReaders(t *suite) {
	spec, ctx := blank(), t.Context()
	t.define(spec)
	slow := t.watch()
	t.next(slow, spec.UUID)
	const rounds = 3
	for range rounds {
		t.must(t.Driver.Start(ctx, spec.UUID))
		t.must(t.Driver.Kill(ctx, spec.UUID))
	}
	t.must(t.Driver.Start(ctx, spec.UUID))
	if ev := t.next(slow, spec.UUID); ev.State != hypervisor.Running {
		t.Errorf("a slow reader got %s, not the latest state", ev.State)
	}
}

func watchEndsWithItsContext(t *suite) {
	spec := blank()
	t.define(spec)
	ctx, cancel := context.WithCancel(t.Context())
	events, err := t.Driver.Watch(ctx)
	t.must(err)
	t.next(events, spec.UUID)
	cancel()
	timer := time.NewTimer(t.Patience)
	defer timer.Stop()
	for {
		select {
		case _, open := <-events:
			if !open {
				return
			}
		case <-timer.C:
			t.Fatal("the channel is not closed")
		}
	}
}

func interruptionIsSurvived(t *suite) {
	lives, dies, off := blank(), blank(), blank()
	t.start(lives)
	t.start(dies)
	t.define(off)
	events := t.watch()
	t.until(events, lives.UUID, in(hypervisor.Running))

	resume := t.Interrupt(t.T)
	_, err := t.Driver.Get(t.Context(), lives.UUID)
	t.expectCode("get", err, fault.Unavailable)
	t.expectCode("define", t.Driver.Define(t.Context(), blank()), fault.Unavailable)
	t.Crash(t.T, dies.UUID)
	resume()

	t.until(events, dies.UUID, in(hypervisor.Crashed))
	fresh := t.watch()
	for id, want := range map[string]hypervisor.State{
		lives.UUID: hypervisor.Running, dies.UUID: hypervisor.Crashed, off.UUID: hypervisor.Off,
	} {
		t.awaitState(id, want)
	}
	t.must(t.Driver.Kill(t.Context(), lives.UUID))
	t.until(events, lives.UUID, in(hypervisor.Off))
	t.until(fresh, lives.UUID, in(hypervisor.Off))
}
