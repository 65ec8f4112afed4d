// Package network keeps the subnets of a host and the addresses in them, and tells the virtualiser's DHCP server who has which.
package network

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// maxPool bounds a subnet's pool: watchers are told all its addresses.
const maxPool = 16384

// Subnet is the wish for a subnet.
type Subnet struct {
	ID string
	// Bridge is the bridge's name. With Existing the bridge is there already and is not touched; otherwise the virtualiser makes it.
	Bridge   string
	Existing bool
	// Gateway is the host's own address in the subnet, with the prefix length.
	Gateway netip.Prefix
	// First and Last bound the addresses that VMs are given.
	First, Last netip.Addr
	Domain      string
	DNS         []netip.Addr
	// Isolated subnets have no way out.
	Isolated                    bool
	AllowedUsers, AllowedGroups []string
}

// Validate says what is wrong with the subnet.
func (s Subnet) Validate() error {
	bad := func(format string, args ...any) error {
		return fault.New(fault.InvalidArgument, "subnet %q: %s", s.ID, fmt.Sprintf(format, args...))
	}
	switch {
	case s.ID == "" || s.ID == "hypervisor":
		return bad("the id must not be empty or \"hypervisor\"")
	case s.Bridge == "" || len(s.Bridge) > 15:
		return bad("bridge %q: a bridge's name has 1 to 15 bytes", s.Bridge)
	case !s.Gateway.IsValid() || !s.Gateway.Addr().Is4():
		return bad("gateway must be an IPv4 address with a prefix length, as 10.0.0.1/24")
	case !s.First.IsValid() || !s.Last.IsValid() || s.Last.Less(s.First):
		return bad("first and last must be addresses, first not after last")
	}
	network := s.Gateway.Masked()
	for _, a := range []netip.Addr{s.First, s.Last} {
		if !network.Contains(a) || a == network.Addr() {
			return bad("address %s is not in %s", a, network)
		}
	}
	if first, last := s.First.As4(), s.Last.As4(); binary.BigEndian.Uint32(last[:])-binary.BigEndian.Uint32(first[:]) >= maxPool {
		return bad("first to last are more than %d addresses", maxPool)
	}
	return nil
}

// lease is an address in use.
type lease struct {
	uuid, hostname, mac string
}

// pool is a subnet with its addresses in use.
type pool struct {
	Subnet
	used map[netip.Addr]lease
}

func (p *pool) free() int {
	n := 0
	for range p.candidates() {
		n++
	}
	return n
}

// candidates yields the free addresses, lowest first.
func (p *pool) candidates() func(yield func(netip.Addr) bool) {
	return func(yield func(netip.Addr) bool) {
		for a := p.First; a.IsValid() && !p.Last.Less(a); a = a.Next() {
			if _, taken := p.used[a]; taken || a == p.Gateway.Addr() {
				continue
			}
			if !yield(a) {
				return
			}
		}
	}
}

// take gives an address to a VM: the wanted one, or the lowest free one.
func (p *pool) take(want netip.Addr, l lease) (netip.Addr, error) {
	if want.IsValid() {
		if !p.Gateway.Masked().Contains(want) || want == p.Gateway.Addr() {
			return want, fault.New(fault.InvalidArgument, "address %s: not an address for VMs of subnet %q (%s)", want, p.ID, p.Gateway.Masked())
		}
		if other, taken := p.used[want]; taken {
			return want, fault.New(fault.AlreadyExists, "address %s: in use by VM %s", want, other.uuid)
		}
		p.used[want] = l
		return want, nil
	}
	for a := range p.candidates() {
		p.used[a] = l
		return a, nil
	}
	return want, fault.New(fault.ResourceExhausted, "subnet %q: no free addresses in pool", p.ID)
}

func (p *pool) leases() []hypervisor.Lease {
	var all []hypervisor.Lease
	for a, l := range p.used {
		all = append(all, hypervisor.Lease{MAC: l.mac, Address: a, Hostname: l.hostname})
	}
	return all
}

// macOf is the MAC address of a network card whose owner wished for none: locally administered, and unique as the IP address is.
func macOf(a netip.Addr) string {
	b := a.As4()
	return fmt.Sprintf("52:54:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3])
}
