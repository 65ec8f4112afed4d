package network

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

const (
	// maxNameServers bounds the IPv6 name servers of a subnet: they must fit into one option of a router advertisement (RFC 8106, section 5.1).
	maxNameServers = 16
	// minPrefix6 and maxPrefix6 bound a subnet's IPv6 prefix. One of 127 or 128 bits has no room for VMs beside the router.
	minPrefix6, maxPrefix6 = 16, 126
)

// checkIPv6 refuses what can not be the IPv6 address of a router, a name server or a VM. field is named in the error.
func checkIPv6(field string, a netip.Addr) error {
	var what string
	switch {
	case a.Zone() != "":
		what = "has a zone; give the address alone"
	case a.Is4In6():
		what = "is an IPv4-mapped address; IPv4 addresses have fields of their own"
	case !a.Is6():
		what = "is an IPv4 address; IPv4 addresses have fields of their own"
	case a.IsUnspecified():
		what = "is the unspecified address"
	case a.IsLoopback():
		what = "is the loopback address"
	case a.IsMulticast():
		what = "is a multicast address"
	case a.IsLinkLocalUnicast():
		what = "is a link-local address, which every card makes for itself; give a global or unique local one (fd00::/8)"
	default:
		return nil
	}
	return fault.New(fault.InvalidArgument, "%s: %s %s", field, a.WithZone(""), what) // a zone may hold anything
}

// parseIPv6 turns a text into an IPv6 address. An empty text is none.
func parseIPv6(field, text string) (netip.Addr, error) {
	if text == "" {
		return netip.Addr{}, nil
	}
	a, err := netip.ParseAddr(text)
	if err != nil {
		return a, fault.New(fault.InvalidArgument, "%s: %q is no IPv6 address", field, text)
	}
	return a, checkIPv6(field, a)
}

// parse6 takes over what the API says of a subnet's IPv6, which may be nothing: then it stays as it is.
func (s *Subnet) parse6(m *hypervisorv1.Subnet) error {
	if m.Ipv6Gateway == nil && len(m.GetIpv6NameServers()) == 0 {
		return nil
	}
	var err error
	if m.Ipv6Gateway != nil {
		if s.Gateway6, err = parseGateway6(m.GetIpv6Gateway()); err != nil {
			return err
		}
	}
	s.DNS6 = nil
	for _, d := range m.GetIpv6NameServers() {
		a, err := parseIPv6("ipv6_name_servers", d)
		if err != nil {
			return err
		}
		s.DNS6 = append(s.DNS6, a)
	}
	return nil
}

// parseGateway6 turns a router's IPv6 address with a prefix length into both. An empty text is none.
func parseGateway6(text string) (netip.Prefix, error) {
	const field = "ipv6_gateway"
	if text == "" {
		return netip.Prefix{}, nil
	}
	address, length, found := strings.Cut(text, "/")
	a, err := parseIPv6(field, address)
	if err != nil {
		return netip.Prefix{}, err
	}
	bits, err := strconv.ParseUint(length, 10, 8)
	if !found || err != nil || !a.IsValid() || bits > 128 {
		return netip.Prefix{}, fault.New(fault.InvalidArgument, "%s: %q is no IPv6 address with a prefix length, as fd00:99::1/64", field, text)
	}
	return netip.PrefixFrom(a, int(bits)), nil
}

// validate6 says what is wrong with the subnet's IPv6.
func (s Subnet) validate6() error {
	if !s.Gateway6.IsValid() {
		if len(s.DNS6) > 0 {
			return fault.New(fault.InvalidArgument, "ipv6_name_servers: the subnet has no IPv6; give ipv6_gateway too, or leave them away")
		}
		return nil
	}
	if err := checkIPv6("ipv6_gateway", s.Gateway6.Addr()); err != nil {
		return err
	}
	if bits := s.Gateway6.Bits(); bits < minPrefix6 || bits > maxPrefix6 {
		return fault.New(fault.InvalidArgument, "ipv6_gateway: %s: the prefix length must be %d to %d", s.Gateway6, minPrefix6, maxPrefix6)
	}
	if s.Gateway6.Addr() == s.Gateway6.Masked().Addr() {
		return fault.New(fault.InvalidArgument, "ipv6_gateway: %s is the address of the prefix itself, which all its routers have (RFC 4291, 2.6.1); give another",
			s.Gateway6.Addr())
	}
	if len(s.DNS6) > maxNameServers {
		return fault.New(fault.InvalidArgument, "ipv6_name_servers: there are %d, and at most %d can be told to guests", len(s.DNS6), maxNameServers)
	}
	for _, d := range s.DNS6 {
		if err := checkIPv6("ipv6_name_servers", d); err != nil {
			return err
		}
	}
	if s.DHCP == byVirtualiser {
		return notByVirtualiser("ipv6_gateway", s.ID)
	}
	return nil
}

// notByVirtualiser is the refusal of IPv6 where libvirt's dnsmasq leases the addresses: libvirt takes no MAC address for a lease of IPv6, only a DUID, which is
// made by the guest and not known before it runs.
func notByVirtualiser(field, id string) error {
	return fault.New(fault.FailedPrecondition, "%s: subnet %q: the virtualiser's DHCP server serves it, which can not give IPv6 addresses to known cards; "+
		"have the daemon serve it (dhcp: hyperplane in the configuration, in libvirt's network namespace) or nobody (dhcp: none)", field, id)
}

// checkSix refuses an IPv6 address that a card in the subnet can not have, whoever has it.
func (p *pool) checkSix(a netip.Addr) error {
	const field = "ipv6_address"
	prefix := p.Gateway6.Masked()
	switch {
	case !p.Gateway6.IsValid():
		return fault.New(fault.InvalidArgument, "%s: %s: subnet %q has no IPv6; give it an ipv6_gateway with UpdateSubnets", field, a, p.ID)
	case !prefix.Contains(a):
		return fault.New(fault.InvalidArgument, "%s: %s is not in subnet %q (%s)", field, a, p.ID, prefix)
	case a == p.Gateway6.Addr():
		return fault.New(fault.InvalidArgument, "%s: %s is the router's of subnet %q", field, a, p.ID)
	case a == prefix.Addr():
		return fault.New(fault.InvalidArgument, "%s: %s is the address of the prefix itself, which the routers of subnet %q have", field, a, p.ID)
	case slices.Contains(p.DNS6, a):
		return fault.New(fault.InvalidArgument, "%s: %s is a name server of subnet %q", field, a, p.ID)
	}
	return nil
}

// freeSix refuses an IPv6 address that a card can not have, or that another has already. None is free.
func (p *pool) freeSix(a netip.Addr) error {
	if !a.IsValid() {
		return nil
	}
	if err := p.checkSix(a); err != nil {
		return err
	}
	for _, l := range p.used {
		if l.six == a {
			return fault.New(fault.AlreadyExists, "ipv6_address: %s: in use by VM %s", a, l.uuid)
		}
	}
	for _, l := range p.external {
		if l.six == a {
			return fault.New(fault.AlreadyExists, "ipv6_address: %s: is leased to the card %s, which is no VM's", a, l.mac)
		}
	}
	return nil
}

// fitSix refuses IPv6 that the addresses in use are not in.
func (p *pool) fitSix() error {
	for _, leases := range []map[netip.Addr]lease{p.used, p.external} {
		for _, l := range leases {
			if !l.six.IsValid() {
				continue
			}
			if err := p.checkSix(l.six); err != nil {
				return fault.As(fault.FailedPrecondition, err, "ipv6_gateway: an address in use does not fit: that of card %s; remove the card's VM or lease first", l.mac)
			}
		}
	}
	return nil
}
