package network

import (
	"fmt"
	"hash/fnv"
	"net"
	"net/netip"
	"strings"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

func subnetList(all []*hypervisorv1.Subnet) *hypervisorv1.SubnetList {
	return &hypervisorv1.SubnetList{Subnets: all}
}

// describe returns the subnets as the API shows them. The caller holds mu.
func (s *Service) describe() []*hypervisorv1.Subnet {
	all := make([]*hypervisorv1.Subnet, 0, len(s.subnets))
	for _, p := range s.subnets {
		n := &hypervisorv1.Subnet{
			Id: p.ID, IpGateway: p.Gateway.Addr().String(), IpMask: net.IP(net.CIDRMask(p.Gateway.Bits(), 32)).String(),
			DomainName: p.Domain, Manage: !p.Existing || p.Managed, VlanId: p.VLAN, AllowedUsers: p.AllowedUsers, AllowedGroups: p.AllowedGroups,
			DisableMetadata: p.DisableMetadata, FirstDynamicIp: text(p.DynamicFirst), LastDynamicIp: text(p.DynamicLast), Tags: p.Tags,
		}
		for _, d := range p.DNS {
			n.DomainNameServers = append(n.DomainNameServers, d.String())
		}
		if p.Gateway6.IsValid() {
			n.Ipv6Gateway = new(p.Gateway6.String())
		}
		for _, d := range p.DNS6 {
			n.Ipv6NameServers = append(n.Ipv6NameServers, d.String())
		}
		all = append(all, n)
	}
	return all
}

func text(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// parse turns a subnet of the API into one of ours. What the API does not say is as in old.
func parse(m *hypervisorv1.Subnet, old Subnet) (Subnet, error) {
	n := old
	n.ID, n.Existing, n.Domain, n.DisableMetadata = m.GetId(), !m.GetManage(), m.GetDomainName(), m.GetDisableMetadata()
	n.Managed = false
	n.VLAN, n.AllowedUsers, n.AllowedGroups, n.Tags = m.GetVlanId(), m.GetAllowedUsers(), m.GetAllowedGroups(), m.GetTags()
	var err error
	if n.Gateway, err = parseGateway(m.GetIpGateway(), m.GetIpMask()); err != nil {
		return n, err
	}
	n.DNS = nil
	for _, d := range m.GetDomainNameServers() {
		a, err := parseIPv4("domain_name_servers", d)
		if err != nil {
			return n, err
		}
		n.DNS = append(n.DNS, a)
	}
	if err := n.parse6(m); err != nil {
		return n, err
	}
	n.DynamicFirst, n.DynamicLast = netip.Addr{}, netip.Addr{}
	if m.GetFirstDynamicIp() != "" || m.GetLastDynamicIp() != "" {
		if n.DynamicFirst, err = parseIPv4("first_dynamic_ip", m.GetFirstDynamicIp()); err != nil {
			return n, err
		}
		if n.DynamicLast, err = parseIPv4("last_dynamic_ip", m.GetLastDynamicIp()); err != nil {
			return n, err
		}
	}
	if n.Domain != "" && strings.Trim(n.Domain, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.") != "" {
		return n, fault.New(fault.InvalidArgument, "domain_name %q: has more than letters, digits, hyphens and dots", n.Domain)
	}
	return n, n.Validate()
}

// parseIPv4 turns a text into an IPv4 address. One of IPv6 is refused with the field that it belongs into.
func parseIPv4(field, text string) (netip.Addr, error) {
	a, err := netip.ParseAddr(text)
	if err != nil {
		return a, fault.New(fault.InvalidArgument, "%s: %q is no IP address", field, text)
	}
	if a = a.Unmap(); !a.Is4() {
		return a, fault.New(fault.InvalidArgument, "%s: %s is an IPv6 address; the subnet's IPv6 is given by ipv6_gateway and ipv6_name_servers, beside its IPv4", field, a)
	}
	return a, nil
}

func parseGateway(gateway, mask string) (netip.Prefix, error) {
	a, err := parseIPv4("ip_gateway", gateway)
	if err != nil {
		return netip.Prefix{}, err
	}
	m, err := parseIPv4("ip_mask", mask)
	if err != nil {
		return netip.Prefix{}, err
	}
	ones, bits := net.IPMask(m.AsSlice()).Size()
	if bits == 0 || ones < 8 || ones > 30 {
		return netip.Prefix{}, fault.New(fault.InvalidArgument, "ip_mask: %s is not the mask of a prefix of 8 to 30 bits", mask)
	}
	return netip.PrefixFrom(a, ones), nil
}

// bridgeName is the name of the bridge that is made for a subnet: readable if the subnet's id can be part of a name, which may have 15 bytes.
func bridgeName(id string) string {
	if strings.Trim(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") == "" && len(id) <= 12 {
		return "hp-" + id
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(id)) // never fails
	return fmt.Sprintf("hp-%08x", h.Sum32())
}
