package libvirt

import (
	"bytes"
	"io"
	"testing"
)

// peer answers with fixed bytes and takes what it is sent.
type peer struct{ io.Reader }

func (peer) Write(b []byte) (int, error) { return len(b), nil }

// packets are answers to authentication, opening and the call.
func packets(parts ...packet) []byte {
	var b bytes.Buffer
	for _, p := range parts {
		_ = send(&b, 0, p.kind, 0, statusOK, p.payload)
	}
	return b.Bytes()
}

// TestStreamBeforeReply reads a stream whose first bytes come before the call's reply.
func TestStreamBeforeReply(t *testing.T) {
	t.Parallel()
	reply, data := packet{kind: typeReply, payload: []byte("mime")}, func(s string) packet { return packet{kind: typeStream, payload: []byte(s)} }
	raw := packets(reply, reply, data("one "), reply, data("two"), data(""))
	var got bytes.Buffer
	if err := stream(peer{bytes.NewReader(raw)}, procScreenshot, nil, &got); err != nil || got.String() != "one two" {
		t.Errorf("%q %v", got.String(), err)
	}
}

func FuzzStream(f *testing.F) {
	f.Add(packets(packet{kind: typeReply}, packet{kind: typeReply}, packet{kind: typeStream, payload: []byte("x")}, packet{kind: typeStream}))
	var failed bytes.Buffer
	_ = send(&failed, 0, typeReply, 0, statusError, message(nil).number(42).number(10).number(1).text("no domain"))
	f.Add(failed.Bytes())
	f.Fuzz(func(t *testing.T, raw []byte) {
		var got bytes.Buffer
		if err := stream(peer{bytes.NewReader(raw)}, procScreenshot, nil, &got); err == nil && got.Len() > len(raw) {
			t.Errorf("%d bytes of %d", got.Len(), len(raw))
		}
	})
}
