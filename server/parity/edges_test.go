package parity_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
)

const (
	// attempts is how many requests each method gets.
	attempts = 25
	// edgePatience is how long a call with a bad request may take. Some wait for what they were told to wait for.
	edgePatience = 400 * time.Millisecond
)

// TestEdges calls every Hypervisor method with requests whose fields are at their edges: nothing, the least, the most, texts that break things elsewhere.
// No answer may be a failure of the server itself, and afterwards the server works as before.
func TestEdges(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, m := range methods() {
		// What waits or ends the host on purpose is left out: HoldLock stops everything else for as long as it is told.
		if m.ParentFile().Package() != "hyperplane.hypervisor.v1" || slices.Contains([]string{"HoldLock", "HoldVmLock", "PowerOff", "SetDisabledState", "GetUpdates"}, string(m.Name())) {
			continue
		}
		t.Run(string(m.Name()), func(t *testing.T) {
			t.Parallel()
			w := w.in(t)
			r := rand.New(rand.NewPCG(uint64(len(m.FullName())), uint64(m.Index())))
			vm := w.vm(t.Context(), false)
			for range attempts {
				req := dynamicpb.NewMessage(m.Input())
				fill(r, req, 3)
				if f := m.Input().Fields().ByName("vm"); f != nil && f.Kind() == protoreflect.StringKind && r.IntN(4) > 0 {
					req.Set(f, protoreflect.ValueOfString(vm))
				}
				ctx, cancel := context.WithTimeout(t.Context(), edgePatience)
				err := send(ctx, w.cc, fullMethod(m), m.IsStreamingClient(), m.IsStreamingServer(), req, dynamicpb.NewMessage(m.Output()))
				cancel()
				switch status.Code(err) {
				case codes.Unknown, codes.Internal:
					t.Errorf("%v\nfor %v", err, brief(req))
				default:
				}
			}
		})
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
		defer cancel()
		if _, err := w.vms().ListVMs(ctx, &hypervisorv1.ListVMsRequest{}); err != nil {
			t.Errorf("afterwards: %v", err)
		}
	})
}

// brief is a message without its long texts.
func brief(m proto.Message) string {
	text := fmt.Sprint(m)
	return text[:min(len(text), 600)]
}

// fill sets some fields of a message to values at their edges.
func fill(r *rand.Rand, m protoreflect.Message, depth int) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if r.IntN(3) == 0 || f.Name() == "access_token" {
			continue
		}
		switch {
		case f.IsMap():
			fillMap(r, m.Mutable(f).Map(), f, depth)
		case f.IsList():
			for range r.IntN(4) {
				m.Mutable(f).List().Append(element(r, m.Mutable(f).List().NewElement(), f, depth))
			}
		default:
			m.Set(f, element(r, m.NewField(f), f, depth))
		}
	}
}

func fillMap(r *rand.Rand, into protoreflect.Map, f protoreflect.FieldDescriptor, depth int) {
	for range r.IntN(4) {
		key := scalar(r, f.MapKey()).MapKey()
		into.Set(key, element(r, into.NewValue(), f.MapValue(), depth))
	}
}

// element returns a value for a field; zero is a new one of its kind.
func element(r *rand.Rand, zero protoreflect.Value, f protoreflect.FieldDescriptor, depth int) protoreflect.Value {
	if f.Kind() != protoreflect.MessageKind {
		return scalar(r, f)
	}
	if depth > 0 {
		fill(r, zero.Message(), depth-1)
	}
	return zero
}

// texts are what breaks parsers, paths, shells and logs.
func texts() []string {
	return []string{
		"", "a", "..", "../../etc/passwd", "/", "/dev/zero", "<domain>&amp;\"'</domain>", "$(reboot)", "`id`;id|id", "a b", "\x00", "\n\r", "%s%n", "ü☃", "-rf",
		"10.88.0.1", "10.88.0.255", "0.0.0.0", "255.255.255.255", "::1", "169.254.169.254", "fd00:77::1/64", "FD00:77:0::A", "::ffff:10.88.0.1", "fe80::1%eth0\n", "::/0", "127.0.0.1:1", "file:///etc/passwd", "http://127.0.0.1:1/x",
		"00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff", "52:54:00:00:00:01", "default", "hypervisor", strings.Repeat("x", 300), strings.Repeat("../", 2000),
		"(((((", "*", "0", "-1", "18446744073709551615",
	}
}

func scalar(r *rand.Rand, f protoreflect.FieldDescriptor) protoreflect.Value {
	pick := func(n int) int { return r.IntN(n) }
	switch f.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(pick(2) == 0)
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum([]protoreflect.EnumNumber{0, 1, 2, 3, 99, -1, math.MaxInt32}[pick(7)])
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		return protoreflect.ValueOfInt32([]int32{0, 1, -1, 20, math.MaxInt32, math.MinInt32}[pick(6)])
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return protoreflect.ValueOfUint32([]uint32{0, 1, 2, 9, 32, 33, 65535, 65536, math.MaxUint32}[pick(9)])
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		return protoreflect.ValueOfInt64([]int64{0, 1, -1, math.MaxInt64, math.MinInt64}[pick(5)])
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return protoreflect.ValueOfUint64([]uint64{0, 1, 511, 512, 4096, 1 << 20, 1 << 40, math.MaxInt64, math.MaxUint64}[pick(9)])
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(texts()[pick(len(texts()))])
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte(texts()[pick(len(texts()))]))
	default:
		return f.Default()
	}
}
