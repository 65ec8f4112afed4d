package hypervisor

import (
	"net/netip"
	"strings"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// Check reports what is wrong with a network's shape: InvalidArgument.
func (n Network) Check() error {
	if err := n.check(); err != nil {
		return fault.Wrap(err, "network %q", n.Name)
	}
	return nil
}

func (n Network) check() error {
	if err := checkNetworkName(n.Name); err != nil {
		return err
	}
	if err := checkInterfaceName(n.Bridge); err != nil {
		return err
	}
	switch {
	case !n.Gateway.IsValid():
		return invalid("needs a gateway address with a prefix length")
	case !n.Gateway.Addr().Is4():
		return invalid("gateway %s is not IPv4; a network has IPv6 beside it, by its second gateway", n.Gateway)
	case n.Gateway.Bits() < 8 || n.Gateway.Bits() > 30:
		return invalid("gateway %s: the prefix length must be 8 to 30", n.Gateway)
	}
	if err := checkHost(n.Gateway, n.Gateway.Addr()); err != nil {
		return fault.Wrap(err, "gateway")
	}
	for _, server := range n.DNS {
		if !server.Is4() {
			return invalid("name server %s has no IPv4 address", server)
		}
	}
	if n.Domain != "" && !isDomainName(n.Domain) {
		return invalid("domain %q is not a DNS name", n.Domain)
	}
	if n.NoDHCP && len(n.DNS) > 0 {
		return invalid("name servers %v: without a DHCP server nobody tells guests of them", n.DNS)
	}
	return n.check6()
}

// check6 reports what is wrong with a network's IPv6.
func (n Network) check6() error {
	g := n.Gateway6
	switch {
	case g == netip.Prefix{}:
		return nil
	case !g.Addr().Is6() || g.Addr().Is4In6() || g.Addr().IsUnspecified() || g.Addr().IsMulticast() || g.Addr().IsLinkLocalUnicast() || g.Addr().IsLoopback():
		return invalid("IPv6 gateway %s: must be a global or unique local address of IPv6", g.Addr())
	case g.Bits() < 16 || g.Bits() > 126:
		return invalid("IPv6 gateway %s: the prefix length must be 16 to 126", g)
	case g.Addr() == g.Masked().Addr():
		return invalid("IPv6 gateway %s: is the address of the prefix itself", g)
	case !n.NoDHCP:
		return invalid("IPv6 gateway %s: the DHCP server of the virtualisation service does not lease IPv6 addresses to known cards; make the network without it", g)
	}
	return nil
}

// NoLeases is the error of SetLeases for a network that was made with NoDHCP.
func NoLeases(network string) error {
	return fault.New(fault.FailedPrecondition, "network %q has no DHCP server of the virtualisation service; whoever made it serves its leases", network)
}

// CheckLeases reports what is wrong with leases for a network with the given gateway: InvalidArgument.
func CheckLeases(network string, gateway netip.Prefix, leases []Lease) error {
	seen := make(map[string]bool, 3*len(leases))
	for _, l := range leases {
		if err := checkLease(gateway, l); err != nil {
			return fault.Wrap(err, "network %q", network)
		}
		for _, key := range []string{l.MAC, l.Address.String(), strings.ToLower(l.Hostname)} {
			if key != "" && seen[key] {
				return invalid("network %q: two leases have %s", network, key)
			}
			seen[key] = true
		}
	}
	return nil
}

func checkLease(gateway netip.Prefix, l Lease) error {
	if err := checkMAC(l.MAC); err != nil {
		return err
	}
	if l.Hostname != "" && !isDomainName(l.Hostname) {
		return invalid("lease of %s: host name %q is not a DNS name", l.MAC, l.Hostname)
	}
	if l.Address == gateway.Addr() {
		return invalid("lease of %s: %s is the gateway's address", l.MAC, l.Address)
	}
	return fault.Wrap(checkHost(gateway, l.Address), "lease of %s", l.MAC)
}

// checkHost reports whether addr can be a host's address in the network: not outside, not the first, not the last.
func checkHost(network netip.Prefix, addr netip.Addr) error {
	prefix := network.Masked()
	if !prefix.Contains(addr) {
		return invalid("address %s is outside %s", addr, prefix)
	}
	if addr == prefix.Addr() || !prefix.Contains(addr.Next()) {
		return invalid("address %s is the network's or the broadcast address of %s", addr, prefix)
	}
	return nil
}

// checkNetworkName is stricter than for machines: DHCP servers make file names and options of it.
func checkNetworkName(name string) error {
	if name == "" || len(name) > 64 || strings.Trim(name, wordBytes) != "" || name[0] == '-' || name[0] == '.' {
		return invalid("network name %q is not 1 to 64 letters, digits, '-', '_' or '.'", name)
	}
	return nil
}

// checkInterfaceName follows the kernel's dev_valid_name, less the characters that need quoting.
func checkInterfaceName(name string) error {
	if name == "" || len(name) > 15 || strings.Trim(name, wordBytes) != "" || name[0] == '-' || name == "." || name == ".." {
		return invalid("bridge name %q is not 1 to 15 letters, digits, '-', '_' or '.'", name)
	}
	return nil
}

const wordBytes = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_."

// isDomainName follows RFC 1123, section 2.1: labels of letters, digits and inner hyphens.
func isDomainName(name string) bool {
	if len(name) > 253 {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' ||
			strings.Trim(label, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") != "" {
			return false
		}
	}
	return true
}
