package watch_test

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/hyperplane-project/hyperplane/server/netplane/dhcp"
	"github.com/hyperplane-project/hyperplane/server/netplane/watch"
)

func FuzzPayload(f *testing.F) {
	from, to := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.9")
	f.Add(dhcp.Datagram(from, to, 67, 68, []byte("message")))
	f.Add([]byte{0x4f})
	f.Fuzz(func(t *testing.T, raw []byte) {
		if payload, ok := watch.Payload(raw); ok && len(payload)+28 > len(raw) {
			t.Errorf("%d bytes in a packet of %d", len(payload), len(raw))
		}
		if len(raw) < 1400 {
			if payload, ok := watch.Payload(dhcp.Datagram(from, to, 67, 68, raw)); !ok || !bytes.Equal(payload, raw) {
				t.Errorf("%x came back as %x", raw, payload)
			}
		}
	})
}
