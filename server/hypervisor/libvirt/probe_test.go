package libvirt

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	golibvirt "github.com/digitalocean/go-libvirt"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/test/privatelibvirt"
)

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

func TestDecideAcceleration(t *testing.T) {
	t.Parallel()
	refused := golibvirt.Error{Code: uint32(golibvirt.ErrConfigUnsupported), Message: "no kvm here"}
	for name, test := range map[string]struct {
		choice   Accel
		noDevice bool
		probe    error
		want     string
		why      string
		probed   bool
	}{
		"configured KVM":       {choice: AccelKVM, noDevice: true, want: virtKVM, why: "configured"},
		"configured emulation": {choice: AccelTCG, want: virtQEMU, why: "configured"},
		"no device":            {noDevice: true, want: virtQEMU, why: "/dev/kvm does not exist"},
		"probe runs":           {want: virtKVM, why: "probe guest ran", probed: true},
		"libvirt refuses":      {probe: refused, want: virtQEMU, why: "no kvm here", probed: true},
		"probe hangs":          {probe: fault.New(fault.DeadlineExceeded, "too slow"), want: virtQEMU, why: "too slow", probed: true},
	} {
		probed := false
		got, err := decideAcceleration(t.Context(), test.choice, func() bool { return !test.noDevice },
			func(_ context.Context, virtType string) error {
				probed = true
				if virtType != virtKVM {
					t.Errorf("%s: the probe is of type %s", name, virtType)
				}
				return test.probe
			})
		if err != nil || got.virtType != test.want || !strings.Contains(got.why, test.why) || probed != test.probed {
			t.Errorf("%s: %+v, %v, probed %v", name, got, err, probed)
		}
	}
}

func TestUndecidedAcceleration(t *testing.T) {
	t.Parallel()
	yes := func() bool { return true }
	_, err := decideAcceleration(t.Context(), AccelAuto, yes, func(context.Context, string) error {
		return fault.New(fault.Unavailable, "no libvirtd")
	})
	if !fault.Is(err, fault.Unavailable) {
		t.Errorf("libvirt away: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	_, err = decideAcceleration(ctx, AccelAuto, yes, func(ctx context.Context, _ string) error {
		cancel()
		return ctx.Err()
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestOnceKeepsGoodAnswers(t *testing.T) {
	t.Parallel()
	var o once[int]
	asked := 0
	ask := func(answer int, err error) func(context.Context) (int, error) {
		return func(context.Context) (int, error) { asked++; return answer, err }
	}
	if _, err := o.get(t.Context(), ask(0, errors.New("not now"))); err == nil {
		t.Error("no error")
	}
	for range 2 {
		if got, err := o.get(t.Context(), ask(7, nil)); got != 7 || err != nil {
			t.Errorf("got %d, %v", got, err)
		}
	}
	if asked != 2 {
		t.Errorf("asked %d times", asked)
	}
}

// TestProbeGuest runs the probe guest that proves KVM, but emulated: it must run through its firmware and leave nothing.
func TestProbeGuest(t *testing.T) {
	t.Parallel()
	inst := privatelibvirt.New(t, privatelibvirt.Options{})
	d, err := Open(t.Context(), Options{Socket: inst.Socket, RunDir: t.TempDir(), Accel: AccelTCG, Log: discard()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.Close() }()
	if _, err := d.owner.get(t.Context(), d.askOwner); err != nil {
		t.Fatal(err)
	}
	if err := d.probeRuns(t.Context(), virtQEMU); err != nil {
		t.Errorf("emulated: %v", err)
	}
	// This libvirt is shown no KVM.
	if err := d.probeRuns(t.Context(), virtKVM); !isLibvirtError(err) {
		t.Errorf("KVM: %v", err)
	}
	if machines, err := d.List(t.Context()); err != nil || len(machines) != 0 {
		t.Errorf("left: %v, %v", machines, err)
	}
}
