package wire

import (
	"net"
	"net/netip"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// Errors keeps the first thing that is wrong with the fields of one message. The zero value is ready.
type Errors struct{ first error }

// Err returns what was kept, or nil.
func (e *Errors) Err() error { return e.first }

func (e *Errors) add(err error, format string, args ...any) {
	if e.first == nil {
		e.first = fault.Wrap(err, format, args...)
	}
}

// One converts a field that holds one value.
func One[F, T any](e *Errors, field string, v F, convert func(F) (T, error)) T {
	t, err := convert(v)
	e.add(err, "%s", field)
	return t
}

// Message converts a field that holds a struct. One without any content becomes nil: the wire can not tell it from an absent one.
func Message[F any, M proto.Message](e *Errors, field string, v F, convert func(F) (M, error)) M {
	m := One(e, field, v, convert)
	if proto.Size(m) == 0 {
		var absent M
		return absent
	}
	return m
}

// List converts a field that holds a list. An empty one becomes nil.
func List[F, T any](e *Errors, field string, values []F, convert func(F) (T, error)) []T {
	if len(values) == 0 {
		return nil
	}
	list := make([]T, len(values))
	for i, v := range values {
		t, err := convert(v)
		e.add(err, "%s[%d]", field, i)
		list[i] = t
	}
	return list
}

// Map converts a field that holds a map. An empty one becomes nil.
func Map[K comparable, F, T any](e *Errors, field string, values map[K]F, convert func(F) (T, error)) map[K]T {
	if len(values) == 0 {
		return nil
	}
	m := make(map[K]T, len(values))
	for k, v := range values {
		t, err := convert(v)
		e.add(err, "%s[%v]", field, k)
		m[k] = t
	}
	return m
}

// IPToProto converts an address of 4 or 16 bytes to text; an IPv4 address within IPv6 loses its wrapping, because peers send both forms.
// No bytes are no address.
func IPToProto(ip net.IP) (string, error) {
	if len(ip) == 0 {
		return "", nil
	}
	addr, ok := netip.AddrFromSlice(ip)
	if !ok {
		return "", fault.New(fault.InvalidArgument, "%d bytes are no IP address; send 4 or 16", len(ip))
	}
	return addr.Unmap().String(), nil
}

// IPToWire converts a textual address to 4 bytes for IPv4, 16 for IPv6.
func IPToWire(text string) (net.IP, error) {
	if text == "" {
		return nil, nil
	}
	addr, err := netip.ParseAddr(text)
	if err != nil || addr.Zone() != "" {
		return nil, fault.New(fault.InvalidArgument, "%q is no IP address, and SRPC carries nothing else here", text)
	}
	return addr.Unmap().AsSlice(), nil
}

// TimeToProto converts a time; the zero time is an absent one.
func TimeToProto(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// TimeToWire converts a timestamp; an absent one is the zero time.
func TimeToWire(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}

// DurationToProto converts a duration; zero is an absent one.
func DurationToProto(d time.Duration) *durationpb.Duration {
	if d == 0 {
		return nil
	}
	return durationpb.New(d)
}

// DurationToWire converts a duration; an absent one is zero, one beyond 292 years is cut to that.
func DurationToWire(d *durationpb.Duration) time.Duration { return d.AsDuration() }

// UnknownNumber is the error of an enum number without a meaning.
func UnknownNumber(enum string, number uint32) error {
	return fault.New(fault.InvalidArgument, "unknown %s: %d", enum, number)
}

// UnknownText is the error of an enum text without a meaning. The peer's wording.
func UnknownText(enum string, text []byte) error {
	return fault.New(fault.InvalidArgument, "unknown %s: %s", enum, text)
}

// UnknownValue is the error of a proto enum value that does not exist on SRPC.
func UnknownValue(enum string, number int32) error {
	return fault.New(fault.Internal, "%s %d does not exist on SRPC", enum, number)
}

// Infallible makes a conversion that can not fail one for List and Map.
func Infallible[F, T any](convert func(F) T) func(F) (T, error) {
	return func(v F) (T, error) { return convert(v), nil }
}
