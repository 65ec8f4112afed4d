package dhcp6_test

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"

	"github.com/hyperplane-project/hyperplane/server/netplane/dhcp6"
)

const (
	known    = "52:54:00:00:00:01"
	without  = "52:54:00:00:00:02" // a card of a VM, without an IPv6 address
	stranger = "52:54:00:00:00:03"
	own      = "fd00:99::a"
)

// book knows two cards.
type book struct{}

func (book) Card(mac string) (dhcp6.Card, bool) {
	switch mac {
	case known:
		return dhcp6.Card{Address: netip.MustParseAddr(own)}, true
	case without:
		return dhcp6.Card{}, true
	default:
		return dhcp6.Card{}, false
	}
}

func newHandler(now func() time.Time) *dhcp6.Handler {
	return dhcp6.NewHandler(dhcp6.Config{
		Gateway: netip.MustParsePrefix("fd00:99::1/64"), DNS: []netip.Addr{netip.MustParseAddr("2001:db8::53")}, Domain: "example.internal",
	}, book{}, now, slog.New(slog.DiscardHandler))
}

func zero() time.Time { return time.Unix(1000, 0) }

// change changes a message.
type change = dhcpv6.Modifier

// message makes one of a client whose DUID says another MAC address than its frames.
func message(tb testing.TB, kind dhcpv6.MessageType, changes ...change) []byte {
	tb.Helper()
	m, err := dhcpv6.NewMessage(append([]change{dhcpv6.WithClientID(&dhcpv6.DUIDLL{HWType: iana.HWTypeEthernet, LinkLayerAddr: net.HardwareAddr{2, 9, 9, 9, 9, 9}})}, changes...)...)
	if err != nil {
		tb.Fatal(err)
	}
	m.MessageType = kind
	return m.ToBytes()
}

func ia(addresses ...string) change {
	o := &dhcpv6.OptIANA{IaId: [4]byte{1, 2, 3, 4}}
	for _, a := range addresses {
		o.Options.Add(&dhcpv6.OptIAAddress{IPv6Addr: net.ParseIP(a), PreferredLifetime: time.Hour, ValidLifetime: time.Hour})
	}
	return dhcpv6.WithOption(o)
}

func prefix() change { return dhcpv6.WithIAPD([4]byte{1}) }

func temporary() change { return dhcpv6.WithIATA([4]byte{2}) }

// to names the server.
func to(tb testing.TB, h *dhcp6.Handler) change {
	tb.Helper()
	m := ask(tb, h, known, message(tb, dhcpv6.MessageTypeSolicit, ia()))
	return dhcpv6.WithServerID(m.Options.ServerID())
}

func ask(tb testing.TB, h *dhcp6.Handler, mac string, raw []byte) *dhcpv6.Message {
	tb.Helper()
	hw, err := net.ParseMAC(mac)
	if err != nil {
		tb.Fatal(err)
	}
	out := h.Handle(tb.Context(), hw, raw)
	if out == nil {
		return nil
	}
	m, err := dhcpv6.MessageFromBytes(out)
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

// brief says what an answer says: its kind, addresses with their lifetimes in hours, and statuses.
func brief(m *dhcpv6.Message) string {
	if m == nil {
		return ""
	}
	words := []string{m.MessageType.String()}
	if s := m.Options.Status(); s != nil {
		words = append(words, s.StatusCode.String())
	}
	for _, o := range m.Options.IANA() {
		for _, a := range o.Options.Addresses() {
			words = append(words, fmt.Sprintf("%s=%v", a.IPv6Addr, a.ValidLifetime.Hours()))
		}
		if s := o.Options.Status(); s != nil {
			words = append(words, "NA:"+s.StatusCode.String())
		}
	}
	for _, o := range m.Options.IATA() {
		words = append(words, "TA:"+o.Options.Status().StatusCode.String())
	}
	for _, o := range m.Options.IAPD() {
		words = append(words, "PD:"+o.Options.Status().StatusCode.String())
	}
	return strings.Join(words, " ")
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	server := to(t, newHandler(zero))
	other := dhcpv6.WithServerID(&dhcpv6.DUIDLL{HWType: iana.HWTypeEthernet, LinkLayerAddr: net.HardwareAddr{2, 1, 1, 1, 1, 1}})
	second := func(d dhcpv6.DHCPv6) { d.AddOption(&dhcpv6.OptIANA{IaId: [4]byte{5}}) }
	nobody := func(d dhcpv6.DHCPv6) { d.(*dhcpv6.Message).Options.Del(dhcpv6.OptionClientID) }
	const (
		solicit, request, renew, rebind = dhcpv6.MessageTypeSolicit, dhcpv6.MessageTypeRequest, dhcpv6.MessageTypeRenew, dhcpv6.MessageTypeRebind
		confirm, release, decline       = dhcpv6.MessageTypeConfirm, dhcpv6.MessageTypeRelease, dhcpv6.MessageTypeDecline
		inform                          = dhcpv6.MessageTypeInformationRequest
	)
	for name, c := range map[string]struct {
		mac     string
		kind    dhcpv6.MessageType
		changes []change
		want    string
	}{
		"a known card":                   {known, solicit, []change{ia()}, "ADVERTISE fd00:99::a=24"},
		"it wishes for another":          {known, solicit, []change{ia("fd00:99::b")}, "ADVERTISE fd00:99::a=24"},
		"at once":                        {known, solicit, []change{ia(), dhcpv6.WithRapidCommit}, "REPLY fd00:99::a=24"},
		"at once, without an address":    {without, solicit, []change{ia(), dhcpv6.WithRapidCommit}, "ADVERTISE NA:NoAddrsAvail"},
		"twice, and more":                {known, solicit, []change{ia(), second, prefix(), temporary()}, "ADVERTISE fd00:99::a=24 NA:NoAddrsAvail TA:NoAddrsAvail PD:NoPrefixAvail"},
		"it takes the offer":             {known, request, []change{ia(own), server}, "REPLY fd00:99::a=24"},
		"it takes another's":             {known, request, []change{ia(own), other}, ""},
		"it takes nobody's":              {known, request, []change{ia(own)}, ""},
		"it renews":                      {known, renew, []change{ia(own), server}, "REPLY fd00:99::a=24"},
		"it renews what it had once":     {known, renew, []change{ia("fd00:99::b"), server}, "REPLY fd00:99::a=24 fd00:99::b=0"},
		"it finds a server again":        {known, rebind, []change{ia(own)}, "REPLY fd00:99::a=24"},
		"it names one that it looks for": {known, rebind, []change{ia(own), server}, ""},
		"it is back":                     {known, confirm, []change{ia(own)}, "REPLY Success"},
		"it is back from elsewhere":      {known, confirm, []change{ia("fd00:98::a")}, "REPLY NotOnLink"},
		"it is back with another's":      {known, confirm, []change{ia("fd00:99::b")}, "REPLY NotOnLink"},
		"it is back with nothing":        {known, confirm, []change{ia()}, ""},
		"it gives it up":                 {known, release, []change{ia(own), server}, "REPLY Success"},
		"it gives up what it has not":    {known, release, []change{ia("fd00:99::b"), server}, "REPLY Success NA:NoBinding"},
		"it found it taken":              {known, decline, []change{ia(own), server}, "REPLY Success"},
		"it has no client identifier":    {known, solicit, []change{ia(), nobody}, ""},
		"it wants no address":            {known, inform, nil, "REPLY"},
		"it wants none, without a name":  {known, inform, []change{nobody}, "REPLY"},
		"it wants none, and one":         {known, inform, []change{ia()}, ""},
		"a card without an address":      {without, solicit, []change{ia()}, "ADVERTISE NA:NoAddrsAvail"},
		"it renews one":                  {without, renew, []change{ia("fd00:99::b"), server}, "REPLY fd00:99::b=0"},
		"it renews none":                 {without, renew, []change{ia(), server}, "REPLY NA:NoBinding"},
		"a stranger":                     {stranger, solicit, []change{ia()}, ""},
		"a stranger's question":          {stranger, inform, nil, ""},
		"a server":                       {known, dhcpv6.MessageTypeReply, []change{ia(own), server}, ""},
	} {
		if got := brief(ask(t, newHandler(zero), c.mac, message(t, c.kind, c.changes...))); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func TestEverythingElse(t *testing.T) {
	t.Parallel()
	h := newHandler(zero)
	m := ask(t, h, known, message(t, dhcpv6.MessageTypeSolicit, ia(), dhcpv6.WithRapidCommit))
	if dns := m.Options.DNS(); len(dns) != 1 || dns[0].String() != "2001:db8::53" {
		t.Errorf("name servers: %v", dns)
	}
	if l := m.Options.DomainSearchList(); l == nil || len(l.Labels) != 1 || l.Labels[0] != "example.internal" {
		t.Errorf("search list: %v", l)
	}
	if o := m.Options.OneIANA(); o.IaId != [4]byte{1, 2, 3, 4} || o.T1 != 12*time.Hour || o.T2 != 24*time.Hour*4/5 {
		t.Errorf("times: %v", o)
	}
	if m.GetOneOption(dhcpv6.OptionRapidCommit) == nil {
		t.Error("no rapid commit")
	}
	if id := m.Options.ClientID(); id == nil || id.DUIDType() != dhcpv6.DUID_LL {
		t.Errorf("client: %v", id)
	}
	// Another server of the same subnet, after a restart or on another host, goes by the same name.
	if again := ask(t, newHandler(zero), known, message(t, dhcpv6.MessageTypeSolicit, ia())); !again.Options.ServerID().Equal(m.Options.ServerID()) {
		t.Errorf("server: %v, then %v", m.Options.ServerID(), again.Options.ServerID())
	}
	relay, err := dhcpv6.EncapsulateRelay(m, dhcpv6.MessageTypeRelayForward, net.ParseIP("fd00:99::2"), net.ParseIP("fe80::1"))
	if err != nil {
		t.Fatal(err)
	}
	if m := ask(t, h, known, relay.ToBytes()); m != nil {
		t.Errorf("through a relay: %v", m)
	}
}

func TestFloodsAreNotAnswered(t *testing.T) {
	t.Parallel()
	now := zero()
	h := newHandler(func() time.Time { return now })
	count := func(mac string) (n int) {
		for range 1000 {
			if ask(t, h, mac, message(t, dhcpv6.MessageTypeSolicit, ia())) != nil {
				n++
			}
		}
		return n
	}
	if n := count(known); n != 20 {
		t.Errorf("%d answers at once", n)
	}
	if n := count(without); n != 20 {
		t.Errorf("%d answers for another card", n)
	}
	now = now.Add(2 * time.Second)
	if n := count(known); n != 10 {
		t.Errorf("%d answers after two seconds", n)
	}
}

func FuzzHandle(f *testing.F) {
	h := newHandler(zero)
	server := to(f, h)
	for kind := dhcpv6.MessageTypeSolicit; kind <= dhcpv6.MessageTypeInformationRequest; kind++ {
		f.Add(message(f, kind, ia(own), server, prefix(), temporary()))
		f.Add(message(f, kind, ia(own, "fd00:99::b"), dhcpv6.WithRapidCommit))
		f.Add(message(f, kind))
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, raw []byte) {
		for _, mac := range []string{known, without} {
			m := ask(t, newHandler(zero), mac, raw)
			if m == nil {
				continue
			}
			for _, o := range m.Options.IANA() {
				for _, a := range o.Options.Addresses() {
					if a.ValidLifetime > 0 && (mac != known || a.IPv6Addr.String() != own) {
						t.Errorf("card %s is leased %s", mac, a.IPv6Addr)
					}
				}
			}
		}
		if m := ask(t, newHandler(zero), stranger, raw); m != nil {
			t.Errorf("a stranger is told %v", m)
		}
	})
}
