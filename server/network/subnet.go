package network

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// maxPool bounds a subnet's pool: watchers are told all its addresses.
const maxPool = 16384

// Who leases the addresses of a subnet, and tells guests of everything else.
const (
	// byPlane is the host's network plane.
	byPlane = "hyperplane"
	// byVirtualiser is the DHCP server of the virtualisation service, without metadata, dynamic range and network boot.
	byVirtualiser = "virtualiser"
	// byNobody: whoever runs the bridge does.
	byNobody = "none"
)

// Subnet is the wish for a subnet.
type Subnet struct {
	ID string
	// Bridge is the bridge's name. With Existing the bridge is there already and is not touched; otherwise the virtualiser makes it.
	Bridge   string
	Existing bool
	// Gateway is the router's address, with the prefix length: the host's own unless the bridge is an existing one.
	Gateway netip.Prefix
	// First and Last bound the addresses that VMs are given; zero = only those that ChangeAddressPool adds.
	First, Last netip.Addr
	Domain      string
	DNS         []netip.Addr
	// Gateway6 is the router's IPv6 address, with the prefix length, and DNS6 are the IPv6 name servers; zero = the subnet has no IPv6.
	Gateway6 netip.Prefix
	DNS6     []netip.Addr
	// Isolated subnets have no way out.
	Isolated                    bool
	AllowedUsers, AllowedGroups []string
	// DHCP is hyperplane, virtualiser or none. Empty: none on an existing bridge; else hyperplane if this process is in the virtualiser's network, otherwise
	// virtualiser.
	DHCP string
	// DynamicFirst and DynamicLast bound the addresses for machines that are no VMs; zero = there are none.
	DynamicFirst, DynamicLast netip.Addr
	// VLAN of the host's uplink is joined to the bridge; 0 = none.
	VLAN            uint32
	DisableMetadata bool
	Tags            map[string]string
	// Managed says that the API calls the subnet managed, though it is on an existing bridge (Deps.GivenBridges).
	Managed bool
}

// Validate says what is wrong with the subnet.
func (s Subnet) Validate() error {
	bad := func(format string, args ...any) error {
		return fault.New(fault.InvalidArgument, "subnet %q: %s", s.ID, fmt.Sprintf(format, args...))
	}
	switch {
	case s.ID == "" || s.ID == "hypervisor":
		return bad("the id must not be empty or \"hypervisor\"")
	case s.Bridge == "" || len(s.Bridge) > 15 || strings.ContainsAny(s.Bridge, "/: \t\n%"):
		return bad("bridge %q: a bridge's name has 1 to 15 bytes, no spaces, slashes or colons", s.Bridge)
	case !s.Gateway.IsValid() || !s.Gateway.Addr().Is4():
		return bad("gateway must be an IPv4 address with a prefix length, as 10.0.0.1/24")
	case s.VLAN > 4094:
		return bad("VLAN %d: must be 1 to 4094, or 0 for none", s.VLAN)
	case !slices.Contains([]string{"", byPlane, byVirtualiser, byNobody}, s.DHCP):
		return bad("dhcp %q: must be %s, %s or %s", s.DHCP, byPlane, byVirtualiser, byNobody)
	case s.Existing && s.DHCP == byVirtualiser:
		return bad("dhcp %s: the virtualiser serves only bridges that it makes", s.DHCP)
	}
	if err := s.checkRange("first and last", s.First, s.Last); err != nil {
		return err
	}
	if err := s.checkRange("first and last dynamic address", s.DynamicFirst, s.DynamicLast); err != nil {
		return err
	}
	if s.First.IsValid() && s.DynamicFirst.IsValid() && !s.Last.Less(s.DynamicFirst) && !s.DynamicLast.Less(s.First) {
		return bad("the dynamic range %s to %s overlaps that of VMs", s.DynamicFirst, s.DynamicLast)
	}
	return fault.Wrap(s.validate6(), "subnet %q", s.ID)
}

func (s Subnet) checkRange(what string, from, to netip.Addr) error {
	if !from.IsValid() && !to.IsValid() {
		return nil
	}
	if !from.Is4() || !to.Is4() || to.Less(from) {
		return fault.New(fault.InvalidArgument, "subnet %q: %s must be IPv4 addresses, the first not after the last", s.ID, what)
	}
	for _, a := range []netip.Addr{from, to} {
		if p := s.Gateway.Masked(); !p.Contains(a) || a == p.Addr() {
			return fault.New(fault.InvalidArgument, "subnet %q: address %s is not in %s", s.ID, a, p)
		}
	}
	if a, b := from.As4(), to.As4(); binary.BigEndian.Uint32(b[:])-binary.BigEndian.Uint32(a[:]) >= maxPool {
		return fault.New(fault.InvalidArgument, "subnet %q: %s are more than %d addresses apart", s.ID, what, maxPool)
	}
	return nil
}

// isHost reports whether a machine besides the gateway can have an address.
func isHost(gateway netip.Prefix, a netip.Addr) bool {
	p := gateway.Masked()
	return p.Contains(a) && a != gateway.Addr() && a != p.Addr() && (p.Contains(a.Next()) || p.Bits() > 30)
}

// checkTogether refuses subnets that are in each other's way.
func checkTogether(all []*pool) error {
	for i, p := range all {
		for _, other := range all[:i] {
			if other.ID == p.ID || other.Bridge == p.Bridge || other.Gateway.Masked().Overlaps(p.Gateway.Masked()) {
				return fault.New(fault.InvalidArgument, "subnet %q: has the id, bridge or addresses of subnet %q", p.ID, other.ID)
			}
			if p.Gateway6.IsValid() && other.Gateway6.IsValid() && other.Gateway6.Masked().Overlaps(p.Gateway6.Masked()) {
				return fault.New(fault.InvalidArgument, "subnet %q: ipv6_gateway: %s overlaps %s of subnet %q", p.ID, p.Gateway6.Masked(), other.Gateway6.Masked(), other.ID)
			}
		}
	}
	return nil
}
