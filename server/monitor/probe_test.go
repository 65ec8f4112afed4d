package monitor_test

import (
	"context"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/monitor"
)

// guest is a port that opens some time after the first attempt.
type guest struct {
	opens    time.Duration // never if negative
	silent   bool          // it does not even refuse
	begin    time.Time
	attempts []time.Duration
	address  string
}

func (g *guest) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if g.begin.IsZero() {
		g.begin = time.Now()
	}
	g.address = network + " " + address
	since := time.Since(g.begin)
	g.attempts = append(g.attempts, since)
	if g.opens >= 0 && since >= g.opens {
		here, there := net.Pipe()
		_ = there.Close()
		return here, nil
	}
	if g.silent {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return nil, errors.New("refused")
}

func probe(ctx context.Context, g *guest, timeout time.Duration) (bool, error) {
	s := &monitor.Service{VMs: oneVM{}, Dial: g.dial}
	res, err := s.ProbeVmPort(ctx, &hypervisorv1.ProbeVmPortRequest{Vm: "web", PortNumber: 22, Timeout: durationpb.New(timeout)})
	return res.GetPortIsOpen(), err
}

func TestProbe(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		guest    guest
		timeout  time.Duration
		open     bool
		attempts int
		took     time.Duration
	}{
		"open":               {guest{}, time.Minute, true, 1, 0},
		"open, no time":      {guest{}, 0, true, 1, 0},
		"closed, no time":    {guest{opens: -1}, 0, false, 1, 0},
		"silent, no time":    {guest{opens: -1, silent: true}, 0, false, 1, time.Second},
		"opens later":        {guest{opens: 600 * time.Millisecond}, time.Minute, true, 4, 750 * time.Millisecond},
		"opens too late":     {guest{opens: 2 * time.Second}, 900 * time.Millisecond, false, 4, 900 * time.Millisecond},
		"silent, then opens": {guest{opens: 1500 * time.Millisecond, silent: true}, time.Minute, true, 3, 2 * time.Second},
		"silent to the end":  {guest{opens: -1, silent: true}, 1500 * time.Millisecond, false, 2, 1500 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				begin := time.Now()
				open, err := probe(t.Context(), &c.guest, c.timeout)
				if open != c.open || err != nil || len(c.guest.attempts) != c.attempts || time.Since(begin) != c.took {
					t.Errorf("open: %v, %v, attempts at %v, took %v", open, err, c.guest.attempts, time.Since(begin))
				}
				if c.guest.address != "tcp 192.0.2.7:22" {
					t.Errorf("dialled %s", c.guest.address)
				}
			})
		})
	}
}

func TestProbeEndsWithItsCaller(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := probe(ctx, &guest{opens: -1}, time.Hour); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	})
}

func TestProbeOfNothing(t *testing.T) {
	t.Parallel()
	s := &monitor.Service{VMs: oneVM{}, Dial: (&guest{}).dial}
	for _, c := range []struct {
		req  *hypervisorv1.ProbeVmPortRequest
		want fault.Code
	}{
		{&hypervisorv1.ProbeVmPortRequest{Vm: "db", PortNumber: 22}, fault.NotFound},
		{&hypervisorv1.ProbeVmPortRequest{Vm: "web"}, fault.InvalidArgument},
		{&hypervisorv1.ProbeVmPortRequest{Vm: "web", PortNumber: 1 << 16}, fault.InvalidArgument},
		{&hypervisorv1.ProbeVmPortRequest{Vm: "web", PortNumber: 22, Timeout: durationpb.New(-1)}, fault.InvalidArgument},
	} {
		if _, err := s.ProbeVmPort(t.Context(), c.req); !fault.Is(err, c.want) {
			t.Errorf("%v: %v", c.req, err)
		}
	}
}
