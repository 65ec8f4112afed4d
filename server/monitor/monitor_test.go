package monitor_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/feed"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
	"github.com/hyperplane-project/hyperplane/server/monitor"
)

// oneVM is a host with one VM, "web"; its machine is known to the virtualiser if it has a name.
type oneVM struct{ machine, dir string }

func (v oneVM) Info(ref string) (*hypervisorv1.VmInfo, error) {
	if ref != "web" {
		return nil, fault.New(fault.NotFound, "vm %q: no such VM", ref)
	}
	return &hypervisorv1.VmInfo{Uuid: "u", Address: &hypervisorv1.Address{IpAddress: "192.0.2.7"}}, nil
}

func (v oneVM) Get(_ context.Context, uuid string) (hypervisor.Machine, error) {
	switch v.machine {
	case "":
		return hypervisor.Machine{}, fault.New(fault.NotFound, "machine %s: unknown", uuid)
	case "!":
		return hypervisor.Machine{}, fault.New(fault.Unavailable, "no virtualiser")
	default:
		return hypervisor.Machine{UUID: uuid, Name: v.machine}, nil
	}
}

func (v oneVM) Directory(string) (string, error) { return v.dir, nil }

// updates is a GetUpdates stream.
type updates struct {
	grpc.ServerStream
	ctx  context.Context
	in   chan *hypervisorv1.GetUpdatesRequest
	sent chan *hypervisorv1.Update
}

func (u *updates) Context() context.Context { return u.ctx }

func (u *updates) Recv() (*hypervisorv1.GetUpdatesRequest, error) {
	select {
	case m, ok := <-u.in:
		if !ok {
			return nil, io.EOF
		}
		return m, nil
	case <-u.ctx.Done():
		return nil, u.ctx.Err()
	}
}

func (u *updates) Send(m *hypervisorv1.GetUpdatesResponse) error {
	u.sent <- m.GetUpdate()
	return nil
}

// start begins a stream and returns it with what ends the server.
func start(ctx context.Context, f *feed.Feed) (u *updates, drain func(), done <-chan error) {
	draining, ended := make(chan struct{}), make(chan error, 1)
	s := &monitor.Service{Feed: f, Now: time.Now, Draining: draining}
	u = &updates{ctx: ctx, in: make(chan *hypervisorv1.GetUpdatesRequest, 4), sent: make(chan *hypervisorv1.Update, 4)}
	go func() { ended <- s.GetUpdates(u) }()
	return u, func() { close(draining) }, ended
}

func TestUpdates(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := feed.New(time.Now)
		f.PutVM(&hypervisorv1.VmInfo{Uuid: "a"})
		u, drain, done := start(t.Context(), f)
		u.in <- &hypervisorv1.GetUpdatesRequest{}
		if first := <-u.sent; !first.GetFull() || len(first.GetVms()) != 1 {
			t.Errorf("first: %v", first)
		}
		f.PutVM(&hypervisorv1.VmInfo{Uuid: "b"})
		if change := <-u.sent; change.GetFull() || change.GetVms()[0].GetUuid() != "b" {
			t.Errorf("change: %v", change)
		}
		u.in <- &hypervisorv1.GetUpdatesRequest{}
		if answer := <-u.sent; len(answer.GetVms()) != 0 || answer.GetRevision() == 0 {
			t.Errorf("answer: %v", answer)
		}
		close(u.in) // the client only listens from now on
		synctest.Wait()
		quiet := time.Now()
		if beat := <-u.sent; len(beat.GetVms()) != 0 || time.Since(quiet) != 15*time.Minute {
			t.Errorf("after %v: %v", time.Since(quiet), beat)
		}
		drain()
		if err := <-done; !fault.Is(err, fault.Unavailable) {
			t.Error(err)
		}
	})
}

func TestUpdatesGoOnAfterARevision(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := feed.New(time.Now)
		f.PutVM(&hypervisorv1.VmInfo{Uuid: "a"})
		known, sub := f.Subscribe(0)
		sub.Close()
		f.PutVM(&hypervisorv1.VmInfo{Uuid: "b"})
		ctx, cancel := context.WithCancel(t.Context())
		u, _, done := start(ctx, f)
		u.in <- &hypervisorv1.GetUpdatesRequest{AfterRevision: known.GetRevision()}
		if first := <-u.sent; first.GetFull() || len(first.GetVms()) != 1 || first.GetVms()[0].GetUuid() != "b" {
			t.Errorf("first: %v", first)
		}
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

func TestExternalLeasesNeedPower(t *testing.T) {
	t.Parallel()
	u, _, done := start(t.Context(), feed.New(time.Now))
	u.in <- &hypervisorv1.GetUpdatesRequest{ExternalLeases: &hypervisorv1.ExternalLeases{}}
	if err := <-done; !fault.Is(err, fault.PermissionDenied) {
		t.Error(err)
	}
}
