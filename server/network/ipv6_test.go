package network_test

import (
	"strings"
	"testing"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/network"
)

// six is a subnet on an existing bridge, where nobody of this host leases addresses, with IPv6.
func six(id, gateway, gateway6 string) *hypervisorv1.Subnet {
	s := wire(id, gateway)
	s.Manage, s.Ipv6Gateway = false, &gateway6
	return s
}

// withSix has the subnets c (fd00:3::/64) and d (no IPv6), both with the addresses .10 to .12 in their pools.
func withSix(t *testing.T) *fixture {
	t.Helper()
	f := newFixture(t)
	c := six("c", "10.7.3.1", "FD00:3:0::1/64")
	c.Ipv6NameServers = []string{"2001:DB8::53"}
	if err := f.update(&hypervisorv1.UpdateSubnetsRequest{Add: []*hypervisorv1.Subnet{c, six("d", "10.7.4.1", "")}}); err != nil {
		t.Fatal(err)
	}
	pool := new(hypervisorv1.ChangeAddressPoolRequest)
	for _, a := range []string{"10.7.3.10", "10.7.3.11", "10.7.3.12", "10.7.4.10", "10.7.4.11", "10.7.4.12"} {
		pool.AddressesToAdd = append(pool.AddressesToAdd, &hypervisorv1.Address{IpAddress: a})
	}
	if _, err := f.ChangeAddressPool(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *fixture) subnet(id string) *hypervisorv1.Subnet {
	f.t.Helper()
	res, err := f.ListSubnets(f.t.Context(), &hypervisorv1.ListSubnetsRequest{})
	if err != nil {
		f.t.Fatal(err)
	}
	for _, n := range res.GetSubnets() {
		if n.GetId() == id {
			return n
		}
	}
	f.t.Fatalf("no subnet %s in %v", id, res)
	return nil
}

func (f *fixture) allocate(uuid, subnet, six string) (*hypervisorv1.Address, error) {
	a, _, err := f.Allocate(network.Request{UUID: uuid, SubnetID: subnet, Want: &hypervisorv1.Address{Ipv6Address: six}})
	return a, err
}

// refused checks that an error has a code and names something.
func refused(t *testing.T, what string, err error, code fault.Code, names string) {
	t.Helper()
	if !fault.Is(err, code) || !strings.Contains(err.Error(), names) {
		t.Errorf("%s: %v; want %v with %q", what, err, code, names)
	}
}

func TestIPv6OfSubnets(t *testing.T) {
	t.Parallel()
	f := withSix(t)
	for _, when := range []string{"at once", "after a restart"} {
		if n := f.subnet("c"); n.GetIpv6Gateway() != "fd00:3::1/64" || len(n.GetIpv6NameServers()) != 1 || n.GetIpv6NameServers()[0] != "2001:db8::53" {
			t.Errorf("%s: %v", when, n)
		}
		f.restart()
	}
	for gateway, names := range map[string]string{
		"fd00:3::/64":             "address of the prefix itself",
		"fd00:3::1":               "prefix length",
		"fd00:3::1/":              "prefix length",
		"fd00:3::1/129":           "prefix length",
		"fd00:3::1/127":           "16 to 126",
		"fe80::1%eth0/64":         "zone",
		"::ffff:192.0.2.1/120":    "IPv4-mapped",
		"192.0.2.1/24":            "is an IPv4 address",
		"ff02::1/64":              "multicast",
		"fe80::1/64":              "link-local",
		"::/64":                   "unspecified",
		"::1/64":                  "loopback",
		"x/64":                    "no IPv6 address",
		"fd00:3:0:0:ffff::1/48":   "overlaps",
		"fd00:3:0:0:0:ffff::1/80": "overlaps",
	} {
		add := []*hypervisorv1.Subnet{six("e", "10.7.5.1", gateway)}
		refused(t, gateway, f.update(&hypervisorv1.UpdateSubnetsRequest{Add: add}), fault.InvalidArgument, names)
	}
	for server, names := range map[string]string{"192.0.2.53": "is an IPv4 address", "fe80::53": "link-local", "y": "no IPv6 address"} {
		n := six("e", "10.7.5.1", "fd00:5::1/64")
		n.Ipv6NameServers = []string{server}
		refused(t, server, f.update(&hypervisorv1.UpdateSubnetsRequest{Add: []*hypervisorv1.Subnet{n}}), fault.InvalidArgument, names)
	}
	n := six("e", "10.7.5.1", "")
	n.Ipv6NameServers = []string{"fd00::53"}
	refused(t, "servers alone", f.update(&hypervisorv1.UpdateSubnetsRequest{Add: []*hypervisorv1.Subnet{n}}), fault.InvalidArgument, "ipv6_gateway")
	n = six("e", "10.7.5.1", "fd00:5::1/64")
	n.Manage = true
	refused(t, "of the virtualiser", f.update(&hypervisorv1.UpdateSubnetsRequest{Add: []*hypervisorv1.Subnet{n}}), fault.FailedPrecondition, "ipv6_gateway")
}

func TestIPv6OfVMs(t *testing.T) {
	t.Parallel()
	f := withSix(t)
	a, err := f.allocate("1", "c", "FD00:3:0:0::A")
	if err != nil || a.GetIpv6Address() != "fd00:3::a" || a.GetIpAddress() != "10.7.3.10" {
		t.Fatalf("%v, %v", a, err)
	}
	if a, err := f.allocate("2", "c", ""); err != nil || a.GetIpv6Address() != "" {
		t.Fatalf("without a wish: %v, %v", a, err)
	}
	lease := &hypervisorv1.RegisterExternalLeasesRequest{Addresses: []*hypervisorv1.Address{
		{IpAddress: "10.7.3.200", MacAddress: "52:54:00:00:00:c8", Ipv6Address: "fd00:3::c8"},
	}}
	if _, err := f.RegisterExternalLeases(t.Context(), lease); err != nil {
		t.Fatal(err)
	}
	for text, c := range map[string]struct {
		subnet string
		code   fault.Code
		names  string
	}{
		"fd00:3::a":        {"c", fault.AlreadyExists, "in use by VM 1"},
		"fd00:3::c8":       {"c", fault.AlreadyExists, "52:54:00:00:00:c8"},
		"fd00:3::1":        {"c", fault.InvalidArgument, "router"},
		"fd00:3::":         {"c", fault.InvalidArgument, "prefix itself"},
		"fd00:4::a":        {"c", fault.InvalidArgument, "fd00:3::/64"},
		"fd00:3::b":        {"d", fault.InvalidArgument, "has no IPv6"},
		"fd00:3::c":        {"a", fault.FailedPrecondition, "ipv6_address"},
		"::ffff:10.7.3.20": {"c", fault.InvalidArgument, "IPv4-mapped"},
		"10.7.3.20":        {"c", fault.InvalidArgument, "is an IPv4 address"},
		"fe80::a":          {"c", fault.InvalidArgument, "link-local"},
		"fd00:3::d%eth0":   {"c", fault.InvalidArgument, "zone"},
		"six":              {"c", fault.InvalidArgument, "no IPv6 address"},
	} {
		_, err := f.allocate("3", c.subnet, text)
		refused(t, text, err, c.code, c.names)
	}
	_, _, err = f.Allocate(network.Request{UUID: "3", SubnetID: "c", Want: &hypervisorv1.Address{IpAddress: "fd00:3::9"}})
	refused(t, "as ip_address", err, fault.InvalidArgument, "ipv6_address")

	// What a VM had is free again, and a restart forgets none.
	f.Release("1")
	if _, err := f.allocate("4", "c", "fd00:3::a"); err != nil {
		t.Errorf("after a release: %v", err)
	}
	f.restart()
	f.Restore([]*hypervisorv1.VmInfo{{Uuid: "4", SubnetId: "c", Address: &hypervisorv1.Address{IpAddress: "10.7.3.10", Ipv6Address: "fd00:3::a"}}})
	_, err = f.allocate("5", "c", "fd00:3::a")
	refused(t, "after a restart", err, fault.AlreadyExists, "VM 4")
}

func TestIPv6OfExternalLeasesAndPool(t *testing.T) {
	t.Parallel()
	f := withSix(t)
	if _, err := f.allocate("1", "c", "fd00:3::a"); err != nil {
		t.Fatal(err)
	}
	address := func(ip, mac, six string) []*hypervisorv1.Address {
		return []*hypervisorv1.Address{{IpAddress: ip, MacAddress: mac, Ipv6Address: six}}
	}
	replace, drop := f.ServeExternal()
	leases := func(a []*hypervisorv1.Address) *hypervisorv1.ExternalLeases {
		return &hypervisorv1.ExternalLeases{Addresses: a}
	}
	if err := replace(t.Context(), leases(address("10.7.3.50", "52:54:00:00:00:50", "fd00:3::50"))); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		addresses []*hypervisorv1.Address
		code      fault.Code
		names     string
	}{
		"a VM's":             {address("10.7.3.51", "52:54:00:00:00:51", "fd00:3::a"), fault.AlreadyExists, "VM 1"},
		"another's":          {address("10.7.3.51", "52:54:00:00:00:51", "fd00:3::50"), fault.AlreadyExists, "another registration"},
		"twice":              {append(address("10.7.3.51", "52:54:00:00:00:51", "fd00:3::51"), address("10.7.3.52", "52:54:00:00:00:52", "fd00:3::51")...), fault.InvalidArgument, "twice"},
		"IPv6 as the key":    {address("fd00:3::51", "52:54:00:00:00:51", ""), fault.InvalidArgument, "ipv6_address"},
		"of the virtualiser": {address("10.7.1.51", "52:54:00:00:00:51", "fd00:3::51"), fault.FailedPrecondition, "ipv6_address"},
	} {
		_, err := f.RegisterExternalLeases(t.Context(), &hypervisorv1.RegisterExternalLeasesRequest{Addresses: c.addresses})
		refused(t, name, err, c.code, c.names)
	}
	if err := drop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := f.allocate("2", "c", "fd00:3::50"); err != nil {
		t.Errorf("after the lease's end: %v", err)
	}
	_, err := f.ChangeAddressPool(t.Context(), &hypervisorv1.ChangeAddressPoolRequest{AddressesToAdd: address("10.7.3.60", "", "fd00:3::60")})
	refused(t, "pool", err, fault.InvalidArgument, "ipv6_address")
	_, err = f.ChangeAddressPool(t.Context(), &hypervisorv1.ChangeAddressPoolRequest{AddressesToAdd: address("fd00:3::60", "", "")})
	refused(t, "pool", err, fault.InvalidArgument, "IPv6")
	_, err = f.NetbootMachine(t.Context(), &hypervisorv1.NetbootMachineRequest{Address: address("10.7.3.60", "52:54:00:00:00:60", "fd00:3::60")[0]})
	refused(t, "network boot", err, fault.Unimplemented, "ipv6_address")
}

func TestIPv6OfSubnetsWithVMs(t *testing.T) {
	t.Parallel()
	f := withSix(t)
	if _, err := f.allocate("1", "c", "fd00:3::a"); err != nil {
		t.Fatal(err)
	}
	change := func(gateway6 string) error {
		return f.update(&hypervisorv1.UpdateSubnetsRequest{Change: []*hypervisorv1.Subnet{six("c", "10.7.3.1", gateway6)}})
	}
	for _, gateway6 := range []string{"", "fd00:4::1/64", "fd00:3::a/64", "fd00:3:0:0:1::1/80"} {
		refused(t, gateway6, change(gateway6), fault.FailedPrecondition, "fd00:3::a")
	}
	if err := change("fd00:3::1/112"); err != nil {
		t.Errorf("a prefix that fits: %v", err)
	}
	if n := f.subnet("c"); n.GetIpv6Gateway() != "fd00:3::1/112" || len(n.GetIpv6NameServers()) != 0 {
		t.Errorf("changed: %v", n)
	}
	// A client of SRPC knows nothing of IPv6, and changes something else.
	legacy := wire("c", "10.7.3.1")
	legacy.Manage, legacy.DomainName = false, "new.internal"
	if err := f.update(&hypervisorv1.UpdateSubnetsRequest{Change: []*hypervisorv1.Subnet{legacy}}); err != nil || f.subnet("c").GetIpv6Gateway() != "fd00:3::1/112" {
		t.Errorf("by who knows nothing of it: %v, %v", err, f.subnet("c"))
	}
	f.Release("1")
	if err := change(""); err != nil || f.subnet("c").GetIpv6Gateway() != "" {
		t.Errorf("without VMs: %v", err)
	}
}
