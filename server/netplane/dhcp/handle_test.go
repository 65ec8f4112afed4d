package dhcp_test

import (
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"

	"github.com/hyperplane-project/hyperplane/server/netplane/dhcp"
)

const (
	known    = "52:54:00:00:00:01"
	stranger = "52:54:00:00:00:02"
	other    = "52:54:00:00:00:03"
)

// book knows one card.
type book struct {
	silent bool
	files  []string
	acked  int
}

func (b *book) Host(mac string) (dhcp.Host, bool) {
	return dhcp.Host{Address: netip.MustParseAddr("10.0.0.9"), Hostname: "web", Silent: b.silent, Files: b.files}, mac == known
}

func (b *book) Busy(a netip.Addr) bool { return a == netip.MustParseAddr("10.0.0.101") }

func (b *book) Acknowledged(string, netip.Addr) { b.acked++ }

type clock struct{ now time.Time }

func newHandler(tb testing.TB, b *book, c *clock) *dhcp.Handler {
	tb.Helper()
	return dhcp.NewHandler(dhcp.Config{
		Subnet: netip.MustParsePrefix("10.0.0.0/24"), Server: netip.MustParseAddr("10.0.0.1"), Router: netip.MustParseAddr("10.0.0.1"),
		First: netip.MustParseAddr("10.0.0.100"), Last: netip.MustParseAddr("10.0.0.102"),
	}, b, func() time.Time { return c.now }, slog.New(slog.DiscardHandler))
}

func packet(tb testing.TB, mac string, kind dhcpv4.MessageType, change ...dhcpv4.Modifier) []byte {
	tb.Helper()
	hw, err := net.ParseMAC(mac)
	if err != nil {
		tb.Fatal(err)
	}
	m, err := dhcpv4.New(append([]dhcpv4.Modifier{dhcpv4.WithHwAddr(hw), dhcpv4.WithMessageType(kind)}, change...)...)
	if err != nil {
		tb.Fatal(err)
	}
	return m.ToBytes()
}

func wish(address string) dhcpv4.Modifier {
	return dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(net.ParseIP(address)))
}

func to(server string) dhcpv4.Modifier {
	return dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.ParseIP(server)))
}

func at(address string) dhcpv4.Modifier { return dhcpv4.WithClientIP(net.ParseIP(address)) }

// answer is the kind and address of an answer; empty = silence.
func answer(tb testing.TB, h *dhcp.Handler, raw []byte) string {
	tb.Helper()
	r := h.Handle(tb.Context(), raw)
	if r == nil {
		return ""
	}
	m, err := dhcpv4.FromBytes(r.Payload)
	if err != nil {
		tb.Fatal(err)
	}
	return m.MessageType().String() + " " + m.YourIPAddr.String()
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	const discover, request, inform = dhcpv4.MessageTypeDiscover, dhcpv4.MessageTypeRequest, dhcpv4.MessageTypeInform
	relayed := func(m *dhcpv4.DHCPv4) { m.GatewayIPAddr = net.IPv4(10, 9, 9, 9) }
	for name, c := range map[string]struct {
		mac    string
		kind   dhcpv4.MessageType
		change []dhcpv4.Modifier
		want   string
	}{
		"a known card":                    {known, discover, nil, "OFFER 10.0.0.9"},
		"it wishes for another address":   {known, discover, []dhcpv4.Modifier{wish("10.0.0.77")}, "OFFER 10.0.0.9"},
		"it takes the offer":              {known, request, []dhcpv4.Modifier{wish("10.0.0.9"), to("10.0.0.1")}, "ACK 10.0.0.9"},
		"it takes another server's offer": {known, request, []dhcpv4.Modifier{wish("10.0.0.9"), to("10.0.0.250")}, ""},
		"it comes back":                   {known, request, []dhcpv4.Modifier{wish("10.0.0.9")}, "ACK 10.0.0.9"},
		"it comes back from elsewhere":    {known, request, []dhcpv4.Modifier{wish("192.168.1.5")}, "NAK 0.0.0.0"},
		"it renews":                       {known, request, []dhcpv4.Modifier{at("10.0.0.9")}, "ACK 10.0.0.9"},
		"it renews what it has not":       {known, request, []dhcpv4.Modifier{at("10.0.0.10")}, "NAK 0.0.0.0"},
		"it has an address already":       {known, inform, []dhcpv4.Modifier{at("10.0.0.9")}, "ACK 0.0.0.0"},
		"an address of another subnet":    {known, inform, []dhcpv4.Modifier{at("10.1.0.9")}, ""},
		"a stranger":                      {stranger, discover, nil, "OFFER 10.0.0.100"},
		"a stranger's wish":               {stranger, discover, []dhcpv4.Modifier{wish("10.0.0.102")}, "OFFER 10.0.0.102"},
		"a stranger's wish that is taken": {stranger, discover, []dhcpv4.Modifier{wish("10.0.0.101")}, "OFFER 10.0.0.100"},
		"a stranger asks for a VM's":      {stranger, request, []dhcpv4.Modifier{wish("10.0.0.9"), to("10.0.0.1")}, "NAK 0.0.0.0"},
		"a stranger comes back":           {stranger, request, []dhcpv4.Modifier{wish("10.0.0.102")}, "ACK 10.0.0.102"},
		"a stranger from elsewhere":       {stranger, request, []dhcpv4.Modifier{wish("192.168.1.5")}, "NAK 0.0.0.0"},
		"somebody else's client":          {stranger, request, []dhcpv4.Modifier{at("10.0.0.200")}, ""},
		"through a relay":                 {known, discover, []dhcpv4.Modifier{relayed}, ""},
	} {
		if got := answer(t, newHandler(t, new(book), new(clock)), packet(t, c.mac, c.kind, c.change...)); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	silent := newHandler(t, &book{silent: true}, new(clock))
	if got := answer(t, silent, packet(t, known, discover)); got != "" {
		t.Errorf("a silent card: %q", got)
	}
}

func TestDynamicLeases(t *testing.T) {
	t.Parallel()
	c := &clock{now: time.Unix(1000, 0)}
	h := newHandler(t, new(book), c)
	take := func(mac, address string) string {
		return answer(t, h, packet(t, mac, dhcpv4.MessageTypeRequest, wish(address), to("10.0.0.1")))
	}
	steps := []struct{ what, got, want string }{
		{"an offer", answer(t, h, packet(t, stranger, dhcpv4.MessageTypeDiscover)), "OFFER 10.0.0.100"},
		{"it is kept", answer(t, h, packet(t, other, dhcpv4.MessageTypeDiscover)), "OFFER 10.0.0.102"},
		{"it is taken", take(stranger, "10.0.0.100"), "ACK 10.0.0.100"},
		{"nobody else gets it", take(other, "10.0.0.100"), "NAK 0.0.0.0"},
	}
	c.now = c.now.Add(2 * time.Hour)
	steps = append(steps, []struct{ what, got, want string }{
		{"it has expired", take(other, "10.0.0.100"), "ACK 10.0.0.100"},
		{"released", answer(t, h, packet(t, other, dhcpv4.MessageTypeRelease, at("10.0.0.100"))), ""},
		{"it is free again", take(stranger, "10.0.0.100"), "ACK 10.0.0.100"},
		{"declined", answer(t, h, packet(t, stranger, dhcpv4.MessageTypeDecline, wish("10.0.0.100"))), ""},
		{"it is not used for a while", answer(t, h, packet(t, stranger, dhcpv4.MessageTypeDiscover, wish("10.0.0.100"))), "OFFER 10.0.0.102"},
	}...)
	for _, s := range steps {
		if s.got != s.want {
			t.Errorf("%s: %q, want %q", s.what, s.got, s.want)
		}
	}
}

func TestBootFile(t *testing.T) {
	t.Parallel()
	files := []string{"EFI/BOOTX64.EFI", "boot.ipxe", "pxelinux.0"}
	for name, c := range map[string]struct {
		files []string
		arch  []iana.Arch
		ipxe  bool
		want  string
	}{
		"BIOS":        {files, nil, false, "pxelinux.0"},
		"UEFI":        {files, []iana.Arch{iana.EFI_X86_64}, false, "EFI/BOOTX64.EFI"},
		"iPXE":        {files, nil, true, "boot.ipxe"},
		"only one":    {[]string{"own"}, nil, false, "own"},
		"none of two": {[]string{"a", "b"}, nil, false, ""},
		"none":        {nil, nil, false, ""},
	} {
		if got := dhcp.BootFile(c.files, c.arch, c.ipxe); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func FuzzHandle(f *testing.F) {
	for _, kind := range []dhcpv4.MessageType{dhcpv4.MessageTypeDiscover, dhcpv4.MessageTypeRequest, dhcpv4.MessageTypeDecline, dhcpv4.MessageTypeRelease, dhcpv4.MessageTypeInform} {
		for _, mac := range []string{known, stranger} {
			f.Add(packet(f, mac, kind, wish("10.0.0.100"), at("10.0.0.9"), to("10.0.0.1"), dhcpv4.WithOption(dhcpv4.OptClientArch(iana.EFI_X86_64))))
		}
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, raw []byte) {
		h := newHandler(t, &book{files: []string{"pxelinux.0"}}, &clock{now: time.Unix(1000, 0)})
		r := h.Handle(t.Context(), raw)
		if r == nil {
			return
		}
		if _, err := dhcpv4.FromBytes(r.Payload); err != nil || len(r.MAC) != 6 || !r.Address.Is4() {
			t.Errorf("answer %v: %v", r, err)
		}
	})
}
