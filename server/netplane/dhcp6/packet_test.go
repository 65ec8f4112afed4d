package dhcp6_test

import (
	"net/netip"
	"testing"

	"github.com/hyperplane-project/hyperplane/server/netplane/dhcp6"
)

// packet is a client's, as the link layer delivers it.
func packet() []byte {
	from, to := netip.MustParseAddr("fe80::a").As16(), dhcp6.Servers().As16()
	p := append([]byte{6 << 4, 0, 0, 0, 0, 12, 17, 1}, append(from[:], to[:]...)...)
	return append(p, 2, 34, 2, 35, 0, 12, 0xba, 0xad, 1, 2, 3, 4)
}

func TestPayload(t *testing.T) {
	t.Parallel()
	p := packet()
	if got, from, ok := dhcp6.Payload(p); !ok || string(got) != "\x01\x02\x03\x04" || from != netip.MustParseAddr("fe80::a") {
		t.Errorf("%v %v %v", got, from, ok)
	}
	if got, _, ok := dhcp6.Payload(append(p, 0, 0)); !ok || len(got) != 4 {
		t.Errorf("with padding of the link layer: %v %v", got, ok)
	}
	for name, spoil := range map[string]func(p []byte) []byte{
		"cut off":        func(p []byte) []byte { return p[:47] },
		"IPv4":           func(p []byte) []byte { p[0] = 4 << 4; return p },
		"TCP":            func(p []byte) []byte { p[6] = 6; return p },
		"a fragment":     func(p []byte) []byte { p[6] = 44; return p },
		"from elsewhere": func(p []byte) []byte { p[8] = 0x20; return p },
		"to one server":  func(p []byte) []byte { p[24] = 0xfe; return p },
		"other port":     func(p []byte) []byte { p[43] = 34; return p },
		"too long":       func(p []byte) []byte { p[45] = 13; return p },
		"too short":      func(p []byte) []byte { p[45] = 7; return p },
	} {
		if got, _, ok := dhcp6.Payload(spoil(packet())); ok {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func FuzzPayload(f *testing.F) {
	f.Add(packet())
	f.Fuzz(func(t *testing.T, p []byte) {
		if got, from, ok := dhcp6.Payload(p); ok && (len(got) > len(p)-48 || !from.IsLinkLocalUnicast()) {
			t.Errorf("%d bytes of %d from %v", len(got), len(p), from)
		}
	})
}
