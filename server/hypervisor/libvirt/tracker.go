package libvirt

import (
	"sync"
	"time"

	"github.com/hyperplane-project/hyperplane/server/hypervisor"
	"github.com/hyperplane-project/hyperplane/server/hypervisor/watch"
)

// tracker keeps the state of every machine on the host and tells the watchers of changes. It is told what libvirt says (observe, forget)
// and what the driver does (note).
type tracker struct {
	hub watch.Hub
	now func() time.Time

	mu       sync.Mutex
	clock    uint64 // counts observations
	machines map[string]*tracked
}

type tracked struct {
	memory

	since time.Time
	seen  uint64 // the observation it was last part of
}

func newTracker(now func() time.Time) *tracker {
	return &tracker{now: now, machines: make(map[string]*tracked)}
}

// moment names the present, for observeAsOf.
func (t *tracker) moment() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.clock
}

// observe takes what libvirt says of one machine. Observations of one machine must come in the order in which libvirt was asked.
func (t *tracker) observe(uuid string, now domainState) (hypervisor.State, time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	m := t.update(uuid, now, false)
	return m.state, m.since
}

// observeAll takes what libvirt said of all machines after the given moment. A machine that was observed by itself since then is left as
// it is: which of the two is newer is not known, but a change that the other missed has an event of its own. Machines that
// are not among them are gone. publish tells the watchers of every machine, changed or not.
func (t *tracker) observeAll(states map[string]domainState, asOf uint64, publish bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for uuid, now := range states {
		if m := t.machines[uuid]; m != nil && m.seen > asOf {
			continue
		}
		t.update(uuid, now, publish)
	}
	for uuid, m := range t.machines {
		if _, there := states[uuid]; !there && m.seen <= asOf {
			t.remove(uuid)
		}
	}
}

func (t *tracker) update(uuid string, now domainState, publish bool) *tracked {
	m := t.machines[uuid]
	if m == nil {
		m = &tracked{}
		t.machines[uuid] = m
	}
	t.clock++
	m.seen = t.clock
	before := m.memory
	m.memory = before.next(now)
	if !before.known || before.state != m.state {
		m.since = t.now()
		publish = true
	}
	if publish {
		t.hub.Publish(hypervisor.Event{UUID: uuid, State: m.state, At: m.since})
	}
	return m
}

// forget takes a machine that is no longer defined.
func (t *tracker) forget(uuid string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.machines[uuid] != nil {
		t.remove(uuid)
	}
}

func (t *tracker) remove(uuid string) {
	delete(t.machines, uuid)
	t.hub.Publish(hypervisor.Event{UUID: uuid, Gone: true, At: t.now()})
}

// note changes what is remembered of a machine's run, before libvirt is asked to change it.
func (t *tracker) note(uuid string, change func(*run)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if m := t.machines[uuid]; m != nil {
		change(&m.run)
	}
}

// get returns what is known of a machine.
func (t *tracker) get(uuid string) (state hypervisor.State, since time.Time, known bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	m := t.machines[uuid]
	if m == nil {
		return hypervisor.Off, time.Time{}, false
	}
	return m.state, m.since, true
}
