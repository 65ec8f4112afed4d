package libvirt

import (
	"net/netip"
	"strings"

	"libvirt.org/go/libvirtxml"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// dnsOption is how dnsmasq is told which name servers guests should use (dnsmasq(8), --dhcp-option).
const dnsOption = "dhcp-option=option:dns-server,"

const familyIPv6 = "ipv6"

// buildNetwork translates a network. An empty UUID leaves its choice to libvirt.
func buildNetwork(n hypervisor.Network, uuid string, hosts []libvirtxml.NetworkDHCPHost) *libvirtxml.Network {
	x := &libvirtxml.Network{
		Name: n.Name,
		UUID: uuid,
		// With the spanning tree protocol a new port would pass nothing for seconds.
		Bridge: &libvirtxml.NetworkBridge{Name: n.Bridge, STP: "off", Delay: "0"},
		IPs:    []libvirtxml.NetworkIP{{Address: n.Gateway.Addr().String(), Prefix: uint(n.Gateway.Bits())}},
	}
	if n.NoDHCP {
		// With neither DHCP nor DNS libvirt starts no dnsmasq, so that both ports are free for whoever serves the network.
		x.DNS = &libvirtxml.NetworkDNS{Enable: "no"}
	} else {
		x.IPs[0].DHCP = &libvirtxml.NetworkDHCP{Hosts: hosts}
	}
	if n.Gateway6.IsValid() {
		// Its packets are forwarded, not translated.
		x.IPs = append(x.IPs, libvirtxml.NetworkIP{Family: familyIPv6, Address: n.Gateway6.Addr().String(), Prefix: uint(n.Gateway6.Bits())})
	}
	if !n.Isolated {
		x.Forward = &libvirtxml.NetworkForward{Mode: "nat"}
	}
	if n.Domain != "" {
		x.Domain = &libvirtxml.NetworkDomain{Name: n.Domain, LocalOnly: "yes"}
	}
	if len(n.DNS) > 0 {
		servers := make([]string, len(n.DNS))
		for i, s := range n.DNS {
			servers[i] = s.String()
		}
		x.DnsmasqOptions = &libvirtxml.NetworkDnsmasqOptions{
			Option: []libvirtxml.NetworkDnsmasqOption{{Value: dnsOption + strings.Join(servers, ",")}},
		}
	}
	return x
}

// parseNetwork translates a definition back. It fails on one that no Network describes, which is somebody else's.
func parseNetwork(x *libvirtxml.Network) (n hypervisor.Network, err error) {
	n.Name = x.Name
	if x.Bridge == nil || len(x.IPs) == 0 || len(x.IPs) > 2 {
		return n, notOurs(x.Name)
	}
	n.Bridge = x.Bridge.Name
	if n.Gateway, err = parseGateway(x.IPs[0]); err != nil {
		return n, notOurs(x.Name)
	}
	if len(x.IPs) == 2 {
		if n.Gateway6, err = parseGateway(x.IPs[1]); err != nil || x.IPs[1].Family != familyIPv6 || x.IPs[1].DHCP != nil {
			return n, notOurs(x.Name)
		}
	}
	switch {
	case x.Forward == nil:
		n.Isolated = true
	case x.Forward.Mode != "nat":
		return n, notOurs(x.Name)
	}
	n.NoDHCP = x.IPs[0].DHCP == nil && x.DNS != nil && x.DNS.Enable == "no"
	if x.Domain != nil {
		n.Domain = x.Domain.Name
	}
	if x.DnsmasqOptions == nil {
		return n, nil
	}
	for _, option := range x.DnsmasqOptions.Option {
		list, found := strings.CutPrefix(option.Value, dnsOption)
		if !found {
			return n, notOurs(x.Name)
		}
		for text := range strings.SplitSeq(list, ",") {
			server, err := netip.ParseAddr(text)
			if err != nil {
				return n, notOurs(x.Name)
			}
			n.DNS = append(n.DNS, server)
		}
	}
	return n, nil
}

func notOurs(name string) error {
	return fault.New(fault.FailedPrecondition, "network %q exists in libvirt and was not made by this driver; remove it or take another name", name)
}

// parseGateway takes the prefix length, or the netmask that stands for it.
func parseGateway(ip libvirtxml.NetworkIP) (netip.Prefix, error) {
	addr, err := netip.ParseAddr(ip.Address)
	if err != nil {
		return netip.Prefix{}, err
	}
	if ip.Netmask == "" {
		return netip.PrefixFrom(addr, int(ip.Prefix)), nil
	}
	mask, err := netip.ParseAddr(ip.Netmask)
	if err != nil {
		return netip.Prefix{}, err
	}
	bits := 0
	for _, b := range mask.AsSlice() {
		for ; b != 0; b <<= 1 {
			bits++
		}
	}
	return netip.PrefixFrom(addr, bits), nil
}

// dhcpHosts returns the known hosts of a definition.
func dhcpHosts(x *libvirtxml.Network) (hosts []libvirtxml.NetworkDHCPHost) {
	for _, ip := range x.IPs {
		if ip.DHCP != nil {
			hosts = append(hosts, ip.DHCP.Hosts...)
		}
	}
	return hosts
}

func buildHost(l hypervisor.Lease) libvirtxml.NetworkDHCPHost {
	return libvirtxml.NetworkDHCPHost{MAC: l.MAC, Name: l.Hostname, IP: l.Address.String()}
}

func buildHosts(leases []hypervisor.Lease) []libvirtxml.NetworkDHCPHost {
	hosts := make([]libvirtxml.NetworkDHCPHost, len(leases))
	for i, l := range leases {
		hosts[i] = buildHost(l)
	}
	return hosts
}

// diffHosts says which hosts must be deleted and then added to come from one set to the other. A host that changes is deleted first,
// because libvirt refuses one that shares an address or a name with another for a moment.
func diffHosts(have []libvirtxml.NetworkDHCPHost, leases []hypervisor.Lease) (del, add []libvirtxml.NetworkDHCPHost) {
	type key struct{ mac, name, ip string }
	keyOf := func(h libvirtxml.NetworkDHCPHost) key { return key{strings.ToLower(h.MAC), h.Name, h.IP} }
	kept := make(map[key]bool, len(have))
	want := make(map[key]bool, len(leases))
	for _, l := range leases {
		want[keyOf(buildHost(l))] = true
	}
	for _, h := range have {
		if want[keyOf(h)] {
			kept[keyOf(h)] = true
		} else {
			del = append(del, h)
		}
	}
	for _, l := range leases {
		if h := buildHost(l); !kept[keyOf(h)] {
			add = append(add, h)
		}
	}
	return del, add
}
