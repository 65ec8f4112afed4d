package libvirt

import (
	"testing"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"
	"github.com/google/go-cmp/cmp"

	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

func shutoff(reason golibvirt.DomainShutoffReason) domainState {
	return domainState{golibvirt.DomainShutoff, int32(reason)}
}

var running = domainState{golibvirt.DomainRunning, 1}

// step is something that happens to a machine: libvirt says now, or the driver notes something.
type step struct {
	now  domainState
	note func(*run)
	want hypervisor.State
}

func note(change func(*run)) step { return step{note: change} }

func TestMemory(t *testing.T) {
	t.Parallel()
	asked := note(func(r *run) { r.asked = true })
	killed := note(func(r *run) { r.killed = true })
	signalled := note(func(r *run) { r.hostEnded = true })
	started := note(func(r *run) { *r = run{} })
	runs, ends := step{now: running, want: hypervisor.Running}, func(r golibvirt.DomainShutoffReason, want hypervisor.State) step {
		return step{now: shutoff(r), want: want}
	}
	const off, crashed = hypervisor.Off, hypervisor.Crashed
	for name, steps := range map[string][]step{
		"never ran":                   {ends(golibvirt.DomainShutoffUnknown, off)},
		"guest powers off":            {runs, ends(golibvirt.DomainShutoffShutdown, off)},
		"guest obeys":                 {runs, asked, {now: running, want: hypervisor.Stopping}, ends(golibvirt.DomainShutoffShutdown, off)},
		"about to end":                {runs, {now: domainState{golibvirt.DomainShutdown, 1}, want: hypervisor.Stopping}},
		"paused":                      {{now: domainState{golibvirt.DomainPaused, 1}, want: hypervisor.Paused}},
		"QEMU dies":                   {runs, ends(golibvirt.DomainShutoffCrashed, crashed), ends(golibvirt.DomainShutoffCrashed, crashed)},
		"guest crashes":               {runs, {now: domainState{golibvirt.DomainCrashed, 1}, want: crashed}},
		"start fails":                 {ends(golibvirt.DomainShutoffShutdown, off), started, ends(golibvirt.DomainShutoffFailed, crashed)},
		"killed by us":                {runs, killed, ends(golibvirt.DomainShutoffDestroyed, off), ends(golibvirt.DomainShutoffDestroyed, off)},
		"killed by others":            {runs, ends(golibvirt.DomainShutoffDestroyed, crashed), ends(golibvirt.DomainShutoffDestroyed, crashed)},
		"killed before we came":       {ends(golibvirt.DomainShutoffDestroyed, off)},
		"signalled":                   {runs, signalled, ends(golibvirt.DomainShutoffShutdown, crashed)},
		"died while libvirtd was off": {runs, ends(golibvirt.DomainShutoffUnknown, crashed)},
		"ended by a new libvirtd":     {runs, ends(golibvirt.DomainShutoffDaemon, crashed)},
		"reason lost by restart":      {runs, ends(golibvirt.DomainShutoffCrashed, crashed), ends(golibvirt.DomainShutoffUnknown, crashed)},
		"off, reason lost by restart": {runs, ends(golibvirt.DomainShutoffShutdown, off), ends(golibvirt.DomainShutoffUnknown, off)},
		"saved":                       {runs, ends(golibvirt.DomainShutoffSaved, off)},
		"new run forgets the wish": {
			runs, asked, ends(golibvirt.DomainShutoffShutdown, off), runs, ends(golibvirt.DomainShutoffDestroyed, crashed),
		},
		"quick new run": {runs, killed, started, runs, ends(golibvirt.DomainShutoffDestroyed, crashed)},
	} {
		var m memory
		for i, s := range steps {
			if s.note != nil {
				s.note(&m.run)
				continue
			}
			if m = m.next(s.now); m.state != s.want {
				t.Errorf("%s: after step %d the machine is %s, not %s", name, i, m.state, s.want)
			}
		}
	}
}

// newTestTracker makes a tracker with a clock that moves by a second whenever it is read.
func newTestTracker() *tracker {
	now := time.Unix(0, 0)
	return newTracker(func() time.Time { now = now.Add(time.Second); return now })
}

func TestTrackerKeepsTheTime(t *testing.T) {
	t.Parallel()
	tr := newTestTracker()
	_, first := tr.observe("a", running)
	_, again := tr.observe("a", running)
	state, later := tr.observe("a", shutoff(golibvirt.DomainShutoffShutdown))
	if !again.Equal(first) || !later.After(first) || state != hypervisor.Off {
		t.Errorf("since %v, %v, %v", first, again, later)
	}
}

func TestTrackerSurvey(t *testing.T) {
	t.Parallel()
	tr := newTestTracker()
	tr.observe("gone", running)
	tr.observe("stays", running)
	asOf := tr.moment()
	tr.observe("newer", running)
	tr.observeAll(map[string]domainState{
		"stays": shutoff(golibvirt.DomainShutoffShutdown), "newer": shutoff(golibvirt.DomainShutoffShutdown), "found": running,
	}, asOf, false)
	got := map[string]hypervisor.State{}
	for uuid := range tr.machines {
		got[uuid], _, _ = tr.get(uuid)
	}
	want := map[string]hypervisor.State{"stays": hypervisor.Off, "newer": hypervisor.Running, "found": hypervisor.Running}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	tr.forget("found")
	if _, _, known := tr.get("found"); known {
		t.Error("a machine that was forgotten is known")
	}
}

func TestTrackerTellsAll(t *testing.T) {
	t.Parallel()
	tr := newTestTracker()
	tr.observe("a", running)
	events := tr.hub.Subscribe(t.Context())
	if ev := <-events; ev.UUID != "a" {
		t.Fatalf("got %v", ev)
	}
	tr.observeAll(map[string]domainState{"a": running}, tr.moment(), false)
	tr.observeAll(map[string]domainState{"a": running}, tr.moment(), true)
	if ev := <-events; ev.UUID != "a" || ev.State != hypervisor.Running {
		t.Fatalf("got %v", ev)
	}
	select {
	case ev := <-events:
		t.Fatalf("an event without a change: %v", ev)
	default:
	}
}
