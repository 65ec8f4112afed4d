package srpcshim

import (
	"sync"
	"time"
)

const (
	// unattended is how long a call may take before somebody watches whether its client stays, or up to twice that. Most calls are over by then.
	unattended = 20 * time.Millisecond
	// patientRounds is after how many rounds without a call the rounds end.
	patientRounds = 50
)

// attendants has the clients watched of calls that take longer than others. One timer for all calls makes rounds while there are any: one for each call, which is
// always the next to expire, would have to wake the thread that waits for timers, which costs more than all else that is done for a short call.
type attendants struct {
	mu    sync.Mutex
	calls map[*attendance]int // the round in which they began
	round int
	walks bool
}

// add begins with a call.
func (w *attendants) add(a *attendance) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.calls == nil {
		w.calls = make(map[*attendance]int)
	}
	w.calls[a] = w.round
	if !w.walks {
		w.walks = true
		go w.walk()
	}
}

// remove ends with it.
func (w *attendants) remove(a *attendance) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.calls, a)
}

// walk makes the rounds until there have been no calls for a while.
func (w *attendants) walk() {
	ticks := time.NewTicker(unattended)
	defer ticks.Stop()
	for quiet := 0; ; {
		<-ticks.C
		long, some := w.next()
		for _, a := range long {
			a.begin()
		}
		if quiet++; some {
			quiet = 0
		}
		if quiet >= patientRounds && w.rest() {
			return
		}
	}
}

// next returns the calls that were there in the last round already, and says whether there are any at all.
func (w *attendants) next() (long []*attendance, some bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	some = len(w.calls) > 0
	for a, began := range w.calls {
		if began < w.round {
			long = append(long, a)
			delete(w.calls, a)
		}
	}
	w.round++
	return long, some
}

// rest ends the rounds unless a call has come.
func (w *attendants) rest() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.walks = len(w.calls) > 0
	return !w.walks
}
