package vsphere

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

func TestTokenRoundTrip(t *testing.T) {
	t.Parallel()
	for _, want := range []token{
		{Server: "s", VM: "vm-1", Power: powerOn, Mark: "m", Snapshot: "snapshot-2"},
		{Server: "s", VM: "vm-1", Power: powerOn, Mark: "m"},
		{Server: "s", VM: "vm-1", Power: powerOff, ChangeVersion: "7", Since: time.Date(2026, 11, 22, 1, 2, 3, 4, time.UTC)},
	} {
		got, err := parseToken(want.encode())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	}
}

// FuzzToken checks that a damaged token is refused in good order, and that an accepted one means something.
func FuzzToken(f *testing.F) {
	f.Add([]byte(`{"server":"s","vm":"vm-1","power":"on","mark":"m"}`))
	f.Add([]byte(`{"server":"s","vm":"vm-1","power":"off","since":"2026-11-22T01:02:03Z"}`))
	f.Add([]byte(`{"power":"on"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		tok, err := parseToken(data)
		if err != nil {
			if !fault.Is(err, fault.InvalidArgument) {
				t.Errorf("error %v is not InvalidArgument", err)
			}
			return
		}
		if tok.VM == "" || tok.Server == "" || (tok.Power == powerOn && tok.Mark == "") {
			t.Errorf("accepted %+v", tok)
		}
		if !json.Valid(tok.encode()) {
			t.Errorf("%+v is not written as JSON", tok)
		}
	})
}

func FuzzFingerprint(f *testing.F) {
	f.Add("00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33")
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := parseFingerprint(text)
		if err == nil && len(p) != 20 && len(p) != 32 {
			t.Errorf("%q becomes a fingerprint of %d bytes", text, len(p))
		}
		if err == nil {
			if again, err := parseFingerprint(p.String()); err != nil || again != p {
				t.Errorf("%s does not read back: %v", p, err)
			}
		}
	})
}
