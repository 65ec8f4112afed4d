package libvirt

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"libvirt.org/go/libvirtxml"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

func TestNetworkXML(t *testing.T) {
	t.Parallel()
	gateway := netip.MustParsePrefix("10.1.2.1/23")
	for name, n := range map[string]hypervisor.Network{
		"isolated": {Name: "inner", Bridge: "hp0", Gateway: gateway, Isolated: true},
		"routed": {
			Name: "outer", Bridge: "hp1", Gateway: gateway, Domain: "example.org",
			DNS: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")},
		},
		"served-elsewhere": {Name: "bare", Bridge: "hp2", Gateway: gateway, NoDHCP: true},
		"ipv6":             {Name: "six", Bridge: "hp3", Gateway: gateway, Gateway6: netip.MustParsePrefix("fd00:99::1/64"), NoDHCP: true},
	} {
		lease := hypervisor.Lease{MAC: "52:54:00:00:00:01", Address: netip.MustParseAddr("10.1.2.9"), Hostname: "one"}
		x := buildNetwork(n, testUUID, []libvirtxml.NetworkDHCPHost{buildHost(lease)})
		text, err := x.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		golden(t, "network-"+name+".xml", text)
		var back libvirtxml.Network
		if err := back.Unmarshal(text); err != nil {
			t.Fatal(err)
		}
		got, err := parseNetwork(&back)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(n, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
			cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s read back:\n%s", name, diff)
		}
		if hosts := dhcpHosts(&back); n.NoDHCP {
			if len(hosts) != 0 {
				t.Errorf("%s: hosts %v", name, hosts)
			}
		} else if len(hosts) != 1 || hosts[0].MAC != lease.MAC {
			t.Errorf("%s: hosts %v", name, hosts)
		}
	}
}

func TestForeignNetwork(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]string{
		"no bridge":      `<forward mode="bridge"/>`,
		"routed":         `<forward mode="route"/><bridge name="b"/><ip address="10.0.0.1" prefix="8"/>`,
		"two subnets":    `<bridge name="b"/><ip address="10.0.0.1" prefix="8"/><ip address="10.9.0.1" prefix="8"/>`,
		"IPv6 by DHCP":   `<bridge name="b"/><ip address="10.0.0.1" prefix="8"/><ip family="ipv6" address="fd00::1" prefix="64"><dhcp/></ip>`,
		"no address":     `<bridge name="b"/><ip address="x"/>`,
		"bad netmask":    `<bridge name="b"/><ip address="10.0.0.1" netmask="x"/>`,
		"dnsmasq option": `<bridge name="b"/><ip address="10.0.0.1" prefix="8"/><options xmlns="http://libvirt.org/schemas/network/dnsmasq/1.0"><option value="x"/></options>`,
	} {
		var x libvirtxml.Network
		if err := x.Unmarshal("<network><name>n</name>" + body + "</network>"); err != nil {
			t.Fatal(err)
		}
		if n, err := parseNetwork(&x); !fault.Is(err, fault.FailedPrecondition) {
			t.Errorf("%s: %+v, %v", name, n, err)
		}
	}
	var x libvirtxml.Network
	text := `<network><name>n</name><bridge name="b"/><ip address="10.0.0.1" netmask="255.255.254.0"/></network>`
	if err := x.Unmarshal(text); err != nil {
		t.Fatal(err)
	}
	if n, err := parseNetwork(&x); err != nil || n.Gateway.String() != "10.0.0.1/23" {
		t.Errorf("netmask: %+v, %v", n, err)
	}
}

func TestDiffHosts(t *testing.T) {
	t.Parallel()
	host := func(mac, name, ip string) libvirtxml.NetworkDHCPHost {
		return libvirtxml.NetworkDHCPHost{MAC: mac, Name: name, IP: ip}
	}
	lease := func(mac, name, ip string) hypervisor.Lease {
		return hypervisor.Lease{MAC: mac, Hostname: name, Address: netip.MustParseAddr(ip)}
	}
	have := []libvirtxml.NetworkDHCPHost{
		host("52:54:00:AA:00:01", "kept", "10.0.0.1"), host("52:54:00:aa:00:02", "swaps", "10.0.0.2"), host("52:54:00:aa:00:03", "", "10.0.0.3"),
	}
	del, add := diffHosts(have, []hypervisor.Lease{
		lease("52:54:00:aa:00:01", "kept", "10.0.0.1"), lease("52:54:00:aa:00:02", "swaps", "10.0.0.3"), lease("52:54:00:aa:00:04", "new", "10.0.0.2"),
	})
	wantAdd := []libvirtxml.NetworkDHCPHost{host("52:54:00:aa:00:02", "swaps", "10.0.0.3"), host("52:54:00:aa:00:04", "new", "10.0.0.2")}
	if diff := cmp.Diff(have[1:], del); diff != "" {
		t.Errorf("deleted:\n%s", diff)
	}
	if diff := cmp.Diff(wantAdd, add); diff != "" {
		t.Errorf("added:\n%s", diff)
	}
}
