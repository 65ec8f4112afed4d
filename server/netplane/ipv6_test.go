package netplane_test

import (
	"context"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/dhcpv6/nclient6"
	"github.com/insomniacslk/dhcp/iana"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/network"
)

// makeBridge6 makes a bridge with an IPv4 address and, unless it is empty, an IPv6 one, whatever new interfaces have by default.
func makeBridge6(t *testing.T, name, address, address6 string) {
	t.Helper()
	makeBridge(t, name, address)
	switch6(t, name, "0")
	if address6 != "" {
		run(t, "ip", "-6", "addr", "add", address6, "dev", name, "nodad")
	}
}

// switch6 switches IPv6 on an interface off ("1") or on ("0").
func switch6(t *testing.T, name, off string) {
	t.Helper()
	if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+name+"/disable_ipv6", []byte(off), 0o600); err != nil {
		t.Fatal(err)
	}
}

func withIPv6(third string) func(*network.Subnet) {
	return func(n *network.Subnet) {
		n.Gateway6, n.DNS6 = netip.MustParsePrefix("fd00:99:"+third+"::1/64"), []netip.Addr{netip.MustParseAddr("2001:db8::53")}
	}
}

// card gives a VM of its own a card with an IPv6 address, attaches its subnet and connects a guest.
func (w *world) card(uuid, six string) *guest {
	w.t.Helper()
	a, id, err := w.Allocate(network.Request{UUID: uuid, Hostname: uuid, Want: &hypervisorv1.Address{Ipv6Address: six}})
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.Attach(w.t.Context(), id); err != nil {
		w.t.Fatal(err)
	}
	g := newGuest(w.t, w.subnet.Bridge, a.GetMacAddress())
	g.ready6()
	return g
}

// ready6 waits until the guest's card has its link-local address.
func (g *guest) ready6() {
	g.t.Helper()
	_ = exec.CommandContext(g.t.Context(), "nsenter", g.enter("busybox", "sysctl", "-w", "net.ipv6.conf.eth0.disable_ipv6=0")...).Run()
	g.until("link-local address", "ip -6 addr show dev eth0 scope link -tentative", "inet6 fe80")
}

// until waits until a command in the guest's network says something.
func (g *guest) until(what, command, text string) {
	g.t.Helper()
	for deadline := time.Now().Add(patience); ; {
		out, err := exec.CommandContext(g.t.Context(), "nsenter", g.enter(strings.Fields(command)...)...).CombinedOutput()
		if err == nil && strings.Contains(string(out), text) {
			return
		}
		if time.Now().After(deadline) {
			g.t.Fatalf("no %s: %v\n%s", what, err, out)
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-g.t.Context().Done():
			g.t.Fatal(g.t.Context().Err())
		}
	}
}

// dhcp6 calls f with a DHCPv6 client on the guest's card.
func (g *guest) dhcp6(f func(ctx context.Context, c *nclient6.Client) error) error {
	g.t.Helper()
	return g.inside(func() error {
		c, err := nclient6.New("eth0", nclient6.WithTimeout(time.Second), nclient6.WithRetry(8))
		if err != nil {
			return err
		}
		defer c.Close()
		return f(g.t.Context(), c)
	})
}

// lease6 has the guest take its address, in two steps, and returns the answer.
func (g *guest) lease6() *dhcpv6.Message {
	g.t.Helper()
	var got *dhcpv6.Message
	err := g.dhcp6(func(ctx context.Context, c *nclient6.Client) error {
		offer, err := c.Solicit(ctx)
		if err == nil {
			got, err = c.Request(ctx, offer)
		}
		return err
	})
	if err != nil {
		g.t.Fatal(err)
	}
	return got
}

func leased(m *dhcpv6.Message) string {
	if a := m.Options.OneIANA().Options.OneAddress(); a != nil {
		return a.IPv6Addr.String()
	}
	return ""
}

func TestVMGetsItsIPv6Address(t *testing.T) {
	t.Parallel()
	makeBridge6(t, "six", "10.99.20.1/24", "fd00:99:20::1/64")
	w := newWorld(t, "six", "20", withIPv6("20"))
	g := w.card("uuid-1", "fd00:99:20::a")

	// The kernel takes our advertisement: the way out, what is on the link, and no address that it makes for itself.
	g.until("default route", "ip -6 route show default", "proto ra")
	g.until("prefix", "ip -6 route show fd00:99:20::/64", "dev eth0")
	out := run(t, "nsenter", g.enter("ip", "-6", "addr", "show", "dev", "eth0", "scope", "global")...)
	if strings.Contains(out, "inet6") {
		t.Errorf("an address that nobody gave: %s", out)
	}

	m := g.lease6()
	if leased(m) != "fd00:99:20::a" || len(m.Options.DNS()) != 1 || m.Options.DomainSearchList().Labels[0] != "example.internal" {
		t.Fatalf("leased %s", m.LongString(0))
	}
	g.run("ip", "-6", "addr", "add", leased(m)+"/128", "dev", "eth0", "nodad")
	run(t, "busybox", "ping6", "-c", "1", "-W", "10", "fd00:99:20::a")
	g.run("busybox", "ping6", "-c", "1", "-W", "10", "fd00:99:20::1")
	g.answers6("[fd00:99:20::a]:7")

	// In one step, as another guest may wish.
	err := g.dhcp6(func(ctx context.Context, c *nclient6.Client) error {
		m, err := c.RapidSolicit(ctx)
		if err == nil && leased(m) != "fd00:99:20::a" {
			t.Errorf("at once: %s", m.LongString(0))
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// answers6 serves TCP in the guest and calls it from the host.
func (g *guest) answers6(address string) {
	g.t.Helper()
	cmd := exec.CommandContext(g.t.Context(), "nsenter", g.enter("busybox", "nc", "-ll", "-p", "7", "-e", "/bin/cat")...)
	if err := cmd.Start(); err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	g.until("listener", "busybox netstat -lnt", ":::7")
	conn, err := (&net.Dialer{Timeout: patience}).DialContext(g.t.Context(), "tcp6", address)
	if err != nil {
		g.t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	buf := make([]byte, 5)
	if _, err := conn.Write([]byte("hello")); err != nil {
		g.t.Fatal(err)
	}
	if n, err := conn.Read(buf); err != nil || !strings.HasPrefix("hello", string(buf[:n])) {
		g.t.Errorf("answer %q, %v", buf[:n], err)
	}
}

// TestIPv6OfOthers checks what cards get that were given no IPv6 address, and that the address goes with the card, not with what its guest says.
func TestIPv6OfOthers(t *testing.T) {
	t.Parallel()
	makeBridge6(t, "six-two", "10.99.21.1/24", "fd00:99:21::1/64")
	w := newWorld(t, "six-two", "21", withIPv6("21"))
	first, second := w.card("uuid-1", "fd00:99:21::a"), w.card("uuid-2", "")
	if got := leased(first.lease6()); got != "fd00:99:21::a" {
		t.Errorf("leased %q", got)
	}
	err := second.dhcp6(func(ctx context.Context, c *nclient6.Client) error {
		mac, err := net.ParseMAC(first.mac)
		if err != nil {
			return err
		}
		m, err := c.Solicit(ctx, dhcpv6.WithClientID(&dhcpv6.DUIDLL{HWType: iana.HWTypeEthernet, LinkLayerAddr: mac}))
		if err == nil && (leased(m) != "" || m.Options.OneIANA().Options.Status().StatusCode != iana.StatusNoAddrsAvail) {
			t.Errorf("a card without an address, in another's name: %s", m.LongString(0))
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	stranger := newGuest(t, "six-two", "52:54:00:00:21:99")
	stranger.ready6()
	err = stranger.inside(func() error {
		c, err := nclient6.New("eth0", nclient6.WithTimeout(300*time.Millisecond), nclient6.WithRetry(2))
		if err != nil {
			return err
		}
		defer c.Close()
		if m, err := c.Solicit(t.Context()); err == nil {
			t.Errorf("a stranger was told %s", m.LongString(0))
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// TestForeignIPv6Router serves a bridge on which somebody else is the router: he says so himself, and we say the rest.
func TestForeignIPv6Router(t *testing.T) {
	t.Parallel()
	makeBridge6(t, "six-given", "10.99.22.1/24", "")
	w := newWorld(t, "six-given", "22", withIPv6("22"))
	g := w.card("uuid-1", "fd00:99:22::a")
	g.until("prefix", "ip -6 route show fd00:99:22::/64", "dev eth0")
	if out := run(t, "nsenter", g.enter("ip", "-6", "route", "show", "default")...); strings.Contains(out, "proto ra") {
		t.Errorf("a way out that is none: %s", out)
	}
	if got := leased(g.lease6()); got != "fd00:99:22::a" {
		t.Errorf("leased %q", got)
	}
}

func TestIPv6SwitchedOff(t *testing.T) {
	t.Parallel()
	makeBridge6(t, "six-off", "10.99.23.1/24", "")
	switch6(t, "six-off", "1")
	w := newWorld(t, "six-off", "23", withIPv6("23"))
	if _, err := w.Attach(t.Context(), "six-off"); !fault.Is(err, fault.FailedPrecondition) || !strings.Contains(err.Error(), "net.ipv6.conf.six-off.disable_ipv6") {
		t.Errorf("where IPv6 is switched off: %v", err)
	}
	switch6(t, "six-off", "0")
	if _, err := w.Attach(t.Context(), "six-off"); err != nil {
		t.Error(err)
	}
}
