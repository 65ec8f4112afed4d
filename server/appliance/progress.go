package appliance

import (
	"sync"
	"time"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
)

// progressEvery is how often a caller hears of the same thing.
const progressEvery = 200 * time.Millisecond

// teller tells a caller how far the work is. One that has gone ends the work by its context.
type teller struct {
	now  func() time.Time
	send func(*hypervisorv1.ApplianceProgress) error

	mu   sync.Mutex
	what string
	last time.Time
}

func (t *teller) tell(what string, done, total uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	if what == t.what && now.Sub(t.last) < progressEvery {
		return
	}
	t.what, t.last = what, now
	_ = t.send(&hypervisorv1.ApplianceProgress{Message: what, BytesDone: done, BytesTotal: total}) // see above
}

// about returns a progress function for one thing.
func (t *teller) about(what string) func(done, total uint64) {
	return func(done, total uint64) { t.tell(what, done, total) }
}
