package wire_test

import (
	"errors"
	"math"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/srpcshim/wire"
)

func TestIP(t *testing.T) {
	t.Parallel()
	for text, bytes := range map[string]int{"10.0.0.1": 4, "::ffff:10.0.0.1": 4, "fd00::1": 16, "": 0} {
		ip, err := wire.IPToWire(text)
		if err != nil || len(ip) != bytes {
			t.Errorf("%q is %d bytes, want %d: %v", text, len(ip), bytes, err)
		}
		back, err := wire.IPToProto(ip)
		if want := strings.TrimPrefix(text, "::ffff:"); err != nil || back != want {
			t.Errorf("%q came back as %q: %v", text, back, err)
		}
	}
	if got, err := wire.IPToProto(net.ParseIP("10.0.0.1")); err != nil || got != "10.0.0.1" {
		t.Errorf("16-byte IPv4: %q, %v", got, err)
	}
	if _, err := wire.IPToProto(net.IP{1, 2, 3}); !fault.Is(err, fault.InvalidArgument) {
		t.Errorf("three bytes: %v", err)
	}
	for _, text := range []string{"web1", "10.0.0", "fe80::1%eth0"} {
		if _, err := wire.IPToWire(text); !fault.Is(err, fault.InvalidArgument) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestTimesAndDurations(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 5, 6, 7, 8, 9, 10, time.UTC)
	if got := wire.TimeToProto(at).AsTime(); !got.Equal(at) {
		t.Error(got)
	}
	if got := wire.TimeToWire(timestamppb.New(at)); !got.Equal(at) {
		t.Error(got)
	}
	if wire.TimeToProto(time.Time{}) != nil || !wire.TimeToWire(nil).IsZero() {
		t.Error("the zero time is an absent one")
	}
	if wire.DurationToProto(0) != nil || wire.DurationToWire(nil) != 0 || wire.DurationToProto(-5).AsDuration() != -5 {
		t.Error("durations")
	}
	if got := wire.DurationToWire(durationpb.New(math.MaxInt64)); got != math.MaxInt64 {
		t.Error(got)
	}
}

// TestErrorsNameTheField keeps the first error, with the way to it.
func TestErrorsNameTheField(t *testing.T) {
	t.Parallel()
	var e wire.Errors
	bad := func(int) (int, error) { return 0, errors.New("is odd") }
	wire.List(&e, "Sizes", []int{1}, bad)
	wire.Map(&e, "Files", map[string]int{"a": 1}, bad)
	if err := e.Err(); err == nil || err.Error() != "Sizes[0]: is odd" {
		t.Error(err)
	}
	var none wire.Errors
	if wire.List(&none, "", []int{}, bad) != nil || wire.Map(&none, "", map[string]int{}, bad) != nil || none.Err() != nil {
		t.Error("empty lists and maps become nil")
	}
	if got := wire.List(&none, "", []time.Duration{5}, wire.Infallible(wire.DurationToProto)); got[0].AsDuration() != 5 {
		t.Error(got)
	}
}

func TestCodec(t *testing.T) {
	t.Parallel()
	type lock struct{ Timeout time.Duration }
	c := wire.NewCodec(
		func(w lock) (*hypervisorv1.HoldLockRequest, error) {
			return &hypervisorv1.HoldLockRequest{Timeout: wire.DurationToProto(w.Timeout)}, nil
		},
		func(m *hypervisorv1.HoldLockRequest) (lock, error) {
			return lock{wire.DurationToWire(m.GetTimeout())}, nil
		})
	w := c.New()
	w.(*lock).Timeout = 7
	m, err := c.Proto(w)
	if err != nil {
		t.Fatal(err)
	}
	back, err := c.Wire(m)
	if err != nil || *back.(*lock) != (lock{7}) {
		t.Errorf("%v, %v", back, err)
	}
	if _, err := c.Proto(5); !fault.Is(err, fault.Internal) {
		t.Errorf("wrong struct: %v", err)
	}
	if _, err := c.Wire(&hypervisorv1.HoldVmLockRequest{}); !fault.Is(err, fault.Internal) {
		t.Errorf("wrong message: %v", err)
	}
}

func TestMessageWithoutContentIsAbsent(t *testing.T) {
	t.Parallel()
	var e wire.Errors
	got := wire.Message(&e, "Address", "", func(ip string) (*hypervisorv1.Address, error) { return &hypervisorv1.Address{IpAddress: ip}, nil })
	if got != nil || e.Err() != nil {
		t.Errorf("%v, %v", got, e.Err())
	}
}
