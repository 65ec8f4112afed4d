package monitor_test

import (
	"context"
	"errors"
	"testing"
	"time"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/principal"
	"github.com/hyperplane-project/hyperplane/server/feed"
	"github.com/hyperplane-project/hyperplane/server/monitor"
)

// served records what leases streams have registered.
type served struct {
	replaced chan *hypervisorv1.ExternalLeases
	dropped  chan struct{}
}

func (s *served) ServeExternal() (func(context.Context, *hypervisorv1.ExternalLeases) error, func(context.Context) error) {
	return func(_ context.Context, l *hypervisorv1.ExternalLeases) error {
			s.replaced <- l
			return nil
		}, func(context.Context) error {
			close(s.dropped)
			return nil
		}
}

func TestExternalLeasesLiveAsLongAsTheStream(t *testing.T) {
	t.Parallel()
	leases := &served{replaced: make(chan *hypervisorv1.ExternalLeases, 2), dropped: make(chan struct{})}
	ctx, cancel := context.WithCancel(principal.WithCaller(t.Context(), principal.Caller{Power: true}))
	u := &updates{ctx: ctx, in: make(chan *hypervisorv1.GetUpdatesRequest), sent: make(chan *hypervisorv1.Update, 16)}
	s := &monitor.Service{Feed: feed.New(time.Now), Now: time.Now, Leases: leases}
	done := make(chan error, 1)
	go func() { done <- s.GetUpdates(u) }()
	for _, ip := range []string{"10.0.0.1", "10.0.0.2"} {
		u.in <- &hypervisorv1.GetUpdatesRequest{ExternalLeases: &hypervisorv1.ExternalLeases{Addresses: []*hypervisorv1.Address{{IpAddress: ip}}}}
		if got := <-leases.replaced; got.GetAddresses()[0].GetIpAddress() != ip {
			t.Errorf("served %v, want %s", got, ip)
		}
	}
	select {
	case <-leases.dropped:
		t.Error("dropped while the stream lives")
	default:
	}
	cancel()
	if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	<-leases.dropped
}
