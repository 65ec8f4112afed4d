package advertise_test

import (
	"encoding/hex"
	"net/netip"
	"testing"

	"github.com/hyperplane-project/hyperplane/server/netplane/advertise"
)

// TestAdvertisement compares with messages put together by hand from RFC 4861, sections 4.2 and 4.6.2, and RFC 8106, section 5.1.
func TestAdvertisement(t *testing.T) {
	t.Parallel()
	prefix := netip.MustParsePrefix("fd00:99::1/64")
	const option = "03044080" + "00278d00" + "00093a80" + "00000000" + "fd000099000000000000000000000000"
	for name, c := range map[string]struct {
		cfg  advertise.Config
		want string
	}{
		"the router":    {advertise.Config{Prefix: prefix, Router: true}, "86000000" + "40c02328" + "00000000" + "00000000" + option},
		"somebody else": {advertise.Config{Prefix: prefix}, "86000000" + "40c00000" + "00000000" + "00000000" + option},
		"with a name server": {
			advertise.Config{Prefix: prefix, DNS: []netip.Addr{netip.MustParseAddr("2001:db8::53")}},
			"86000000" + "40c00000" + "00000000" + "00000000" + option + "19030000" + "00002328" + "20010db8000000000000000000000053",
		},
	} {
		if got := hex.EncodeToString(advertise.Advertisement(c.cfg)); got != c.want {
			t.Errorf("%s:\n%s, want\n%s", name, got, c.want)
		}
	}
}

func TestSolicitations(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"8500000000000000":                 true,
		"85000000000000000101525400000001": true,
		"850000000000000001":               false, // half an option
		"85000000000000000100525400000001": false, // one without a length
		"85000000000000000102525400000001": false, // one longer than the message
		"8501000000000000":                 false,
		"8600000000000000":                 false,
		"85000000":                         false,
	} {
		m, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := advertise.IsSolicitation(m, 255); got != want {
			t.Errorf("%s: %v", text, got)
		}
		if advertise.IsSolicitation(m, 254) {
			t.Errorf("%s: though it was forwarded", text)
		}
	}
}

func FuzzIsSolicitation(f *testing.F) {
	f.Add([]byte("\x85\x00\x00\x00\x00\x00\x00\x00\x01\x01\x52\x54\x00\x00\x00\x01"))
	f.Fuzz(func(_ *testing.T, m []byte) { advertise.IsSolicitation(m, 255) })
}
