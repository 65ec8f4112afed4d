package hypervisortest

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

func networkShape(t *suite) {
	n, ctx := t.network(), t.Context()
	t.must(t.Driver.EnsureNetwork(ctx, n)) // once more changes nothing

	other := n
	other.Name += "-other"
	t.expectCode("bridge of another network", t.Driver.EnsureNetwork(ctx, other), fault.AlreadyExists)

	changed := n
	changed.Domain, changed.DNS = "example.org", []netip.Addr{netip.MustParseAddr("192.0.2.53")}
	changed.Bridge += "x"
	t.must(t.Driver.EnsureNetwork(ctx, changed))

	for name, spoil := range map[string]func(*hypervisor.Network){
		"name":       func(n *hypervisor.Network) { n.Name = "a b" },
		"bridge":     func(n *hypervisor.Network) { n.Bridge = "0123456789abcdef" },
		"no gateway": func(n *hypervisor.Network) { n.Gateway = netip.Prefix{} },
		"broadcast":  func(n *hypervisor.Network) { n.Gateway = netip.MustParsePrefix("10.1.2.255/24") },
		"domain":     func(n *hypervisor.Network) { n.Domain = "a,b" },
		"IPv6":       func(n *hypervisor.Network) { n.Gateway = netip.MustParsePrefix("fd00::1/64") },
		"link-local": func(n *hypervisor.Network) { n.Gateway6, n.NoDHCP = netip.MustParsePrefix("fe80::1/64"), true },
		"IPv4 twice": func(n *hypervisor.Network) { n.Gateway6, n.NoDHCP = netip.MustParsePrefix("10.1.2.1/24"), true },
		"no room":    func(n *hypervisor.Network) { n.Gateway6, n.NoDHCP = netip.MustParsePrefix("fd00::1/127"), true },
		"prefix":     func(n *hypervisor.Network) { n.Gateway6, n.NoDHCP = netip.MustParsePrefix("fd00::/64"), true },
		"IPv6 DHCP":  func(n *hypervisor.Network) { n.Gateway6 = netip.MustParsePrefix("fd00::1/64") },
	} {
		bad := n
		spoil(&bad)
		t.expectCode(name, t.Driver.EnsureNetwork(ctx, bad), fault.InvalidArgument)
	}
	t.must(t.Driver.RemoveNetwork(ctx, n.Name))
	t.must(t.Driver.RemoveNetwork(ctx, n.Name)) // unknown is no error
	t.must(t.Driver.EnsureNetwork(ctx, n))      // and can be made again
}

// networkWithoutDHCP checks that a network can be made without a DHCP server, and change from one kind to the other.
func networkWithoutDHCP(t *suite) {
	n, ctx := t.network(), t.Context()
	lease := []hypervisor.Lease{{MAC: newMAC(), Address: n.Gateway.Addr().Next()}}
	t.must(t.Driver.SetLeases(ctx, n.Name, lease))
	bare := n
	bare.NoDHCP = true
	t.must(t.Driver.EnsureNetwork(ctx, bare))
	t.must(t.Driver.EnsureNetwork(ctx, bare))
	t.expectCode("leases without DHCP", t.Driver.SetLeases(ctx, n.Name, lease), fault.FailedPrecondition)
	told := bare
	told.DNS = []netip.Addr{netip.MustParseAddr("192.0.2.53")}
	t.expectCode("name servers without DHCP", t.Driver.EnsureNetwork(ctx, told), fault.InvalidArgument)

	spec := blank()
	spec.NICs = []hypervisor.NIC{{MAC: newMAC(), Network: n.Name}}
	t.start(spec)
	t.expectCode("change in use", t.Driver.EnsureNetwork(ctx, n), fault.FailedPrecondition)
	t.must(t.Driver.Kill(ctx, spec.UUID))
	t.must(t.Driver.EnsureNetwork(ctx, n))
	t.must(t.Driver.SetLeases(ctx, n.Name, lease))
}

// networkWithIPv6 checks that a network can have IPv6 beside IPv4, and lose it again.
func networkWithIPv6(t *suite) {
	n, ctx := t.network(), t.Context()
	n.NoDHCP = true
	six := n
	six.Gateway6 = netip.MustParsePrefix("fd00:99::1/64")
	t.must(t.Driver.EnsureNetwork(ctx, six))
	t.must(t.Driver.EnsureNetwork(ctx, six))

	spec := blank()
	spec.NICs = []hypervisor.NIC{{MAC: newMAC(), Network: n.Name}}
	t.start(spec)
	t.must(t.Driver.EnsureNetwork(ctx, six))
	t.expectCode("change in use", t.Driver.EnsureNetwork(ctx, n), fault.FailedPrecondition)
	t.must(t.Driver.Kill(ctx, spec.UUID))
	t.must(t.Driver.EnsureNetwork(ctx, n))
}

func networkInUse(t *suite) {
	n, ctx := t.network(), t.Context()
	spec := blank()
	spec.NICs = []hypervisor.NIC{{MAC: newMAC(), Network: n.Name}}
	t.start(spec)
	t.must(t.Driver.EnsureNetwork(ctx, n))
	changed := n
	changed.Domain = "example.org"
	t.expectCode("change", t.Driver.EnsureNetwork(ctx, changed), fault.FailedPrecondition)
	t.expectCode("remove", t.Driver.RemoveNetwork(ctx, n.Name), fault.FailedPrecondition)
	t.must(t.Driver.Kill(ctx, spec.UUID))
	t.must(t.Driver.EnsureNetwork(ctx, changed))
	t.must(t.Driver.RemoveNetwork(ctx, n.Name))
}

func networkMustExist(t *suite) {
	spec := blank()
	spec.NICs = []hypervisor.NIC{{MAC: newMAC(), Network: "nowhere-" + spec.UUID[:8]}}
	t.define(spec)
	t.expectCode("start", t.Driver.Start(t.Context(), spec.UUID), fault.FailedPrecondition)
	if state := t.state(spec.UUID); state.Alive() {
		t.Errorf("the machine is %s", state)
	}
}

func leasesAreChecked(t *suite) {
	n, ctx := t.network(), t.Context()
	addr := func(last byte) netip.Addr {
		b := n.Gateway.Addr().As4()
		b[3] = last
		return netip.AddrFrom4(b)
	}
	good := hypervisor.Lease{MAC: newMAC(), Address: addr(10), Hostname: "one"}
	for name, leases := range map[string][]hypervisor.Lease{
		"outside":       {{MAC: newMAC(), Address: netip.MustParseAddr("192.0.2.1")}},
		"gateway":       {{MAC: newMAC(), Address: addr(1)}},
		"broadcast":     {{MAC: newMAC(), Address: addr(255)}},
		"no address":    {{MAC: newMAC()}},
		"bad MAC":       {{MAC: "x", Address: addr(11)}},
		"host name":     {{MAC: newMAC(), Address: addr(11), Hostname: "a,b"}},
		"MAC twice":     {good, {MAC: good.MAC, Address: addr(11)}},
		"address twice": {good, {MAC: newMAC(), Address: good.Address}},
		"name twice":    {good, {MAC: newMAC(), Address: addr(11), Hostname: "ONE"}},
	} {
		t.expectCode(name, t.Driver.SetLeases(ctx, n.Name, leases), fault.InvalidArgument)
	}
	t.expectCode("unknown network", t.Driver.SetLeases(ctx, "no-such-network", nil), fault.NotFound)

	// Any set may follow any other, also one that swaps addresses.
	swapped := hypervisor.Lease{MAC: newMAC(), Address: addr(11), Hostname: "two"}
	t.must(t.Driver.SetLeases(ctx, n.Name, []hypervisor.Lease{good, swapped}))
	good.Address, swapped.Address = swapped.Address, good.Address
	t.must(t.Driver.SetLeases(ctx, n.Name, []hypervisor.Lease{good, swapped}))
	t.must(t.Driver.SetLeases(ctx, n.Name, []hypervisor.Lease{{MAC: good.MAC, Address: swapped.Address}}))
	var many []hypervisor.Lease
	for last := range byte(100) {
		many = append(many, hypervisor.Lease{MAC: newMAC(), Address: addr(100 + last)})
	}
	t.must(t.Driver.SetLeases(ctx, n.Name, many))
	t.must(t.Driver.SetLeases(ctx, n.Name, nil))
	t.must(t.Driver.SetLeases(ctx, n.Name, nil))
}

func leasesReachGuests(t *suite) {
	n, ctx := t.network(), t.Context()
	lease := hypervisor.Lease{MAC: newMAC(), Address: n.Gateway.Addr().Next(), Hostname: "leased"}
	t.must(t.Driver.SetLeases(ctx, n.Name, []hypervisor.Lease{lease}))
	spec := t.bootable()
	stranger := newMAC()
	spec.NICs = []hypervisor.NIC{{MAC: lease.MAC, Network: n.Name}, {MAC: stranger, Network: n.Name}}
	t.start(spec)
	c := t.openConsole(spec.UUID)
	line := c.await("GUEST IP")
	for _, want := range []string{fmt.Sprintf(" %s/24 ", lease.Address), "mac=" + lease.MAC, "name=leased", "router=none"} {
		if !strings.Contains(line+" ", want) {
			t.Errorf("the guest said %q, without %q", line, want)
		}
	}

	// A change reaches the guest when it asks again; nobody but the known cards is served.
	lease.Address = lease.Address.Next()
	t.must(t.Driver.SetLeases(ctx, n.Name, []hypervisor.Lease{lease}))
	t.must(t.Driver.Reset(ctx, spec.UUID))
	c.await(fmt.Sprintf(" %s/24 ", lease.Address))
	if strings.Contains(c.String(), "mac="+stranger) {
		t.Errorf("a card without a lease was served:\n%s", c)
	}
}
