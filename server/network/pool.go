// Package network keeps the subnets of a host and the addresses in them, and has somebody serve them: the host's network plane (package netplane) or the
// virtualiser's DHCP server.
package network

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// lease is an address in use.
type lease struct {
	uuid, hostname, mac string
	// six is the card's IPv6 address; the zero value = it has none.
	six netip.Addr
	// primary is the address of the VM's first card.
	primary bool
	// order grows with each address that is taken.
	order uint64
}

// pool is a subnet with its addresses.
type pool struct {
	Subnet
	used map[netip.Addr]lease
	// extra are addresses that were added to the range, with their MAC addresses ("" = the usual one); removed are those taken out of it.
	extra   map[netip.Addr]string
	removed map[netip.Addr]bool
	// external are addresses that are leased to machines that are no VMs of this host.
	external map[netip.Addr]lease
	// actual is who serves the subnet since it was made; empty = not made yet.
	actual string
	// hint is an address below which the range had none free, as far as the last search saw; the search begins there.
	hint netip.Addr
	// closing says that the subnet is just being changed or deleted.
	closing bool
}

func newPool(n Subnet) *pool {
	return &pool{
		Subnet: n, used: make(map[netip.Addr]lease), extra: make(map[netip.Addr]string), removed: make(map[netip.Addr]bool),
		external: make(map[netip.Addr]lease),
	}
}

func (p *pool) free() int {
	n := 0
	for range p.candidates() {
		n++
	}
	return n
}

// candidates yields the free addresses, lowest first, those of the range before those that were added.
func (p *pool) candidates() func(yield func(netip.Addr) bool) { return p.candidatesFrom(p.First) }

// candidatesFrom leaves out those of the range that are lower than an address.
func (p *pool) candidatesFrom(first netip.Addr) func(yield func(netip.Addr) bool) {
	return func(yield func(netip.Addr) bool) {
		for a := first; a.IsValid() && !p.Last.Less(a); a = a.Next() {
			_, added := p.extra[a]
			if !added && !p.removed[a] && !p.taken(a) && !yield(a) {
				return
			}
		}
		for _, a := range slices.SortedFunc(maps.Keys(p.extra), netip.Addr.Compare) {
			if !p.taken(a) && !yield(a) {
				return
			}
		}
	}
}

func (p *pool) taken(a netip.Addr) bool {
	_, used := p.used[a]
	_, external := p.external[a]
	return used || external || a == p.Gateway.Addr()
}

// has reports whether an address is in the pool, free or used.
func (p *pool) has(a netip.Addr) bool {
	_, used := p.used[a]
	_, added := p.extra[a]
	inRange := p.ranged(a) && !p.removed[a] && a != p.Gateway.Addr()
	return used || added || inRange
}

// mac is the MAC address of the card that gets an address and whose owner wished for none.
func (p *pool) mac(a netip.Addr) string {
	if mac := p.extra[a]; mac != "" {
		return mac
	}
	return macOf(a)
}

// isDynamic reports whether an address is in the range for machines that are no VMs.
func (p *pool) isDynamic(a netip.Addr) bool {
	return p.DynamicFirst.IsValid() && !a.Less(p.DynamicFirst) && !p.DynamicLast.Less(a)
}

// checkHost refuses an address that no machine in the subnet can have.
func (p *pool) checkHost(a netip.Addr) error {
	switch {
	case !isHost(p.Gateway, a):
		return fault.New(fault.InvalidArgument, "address %s: not an address for VMs of subnet %q (%s)", a, p.ID, p.Gateway.Masked())
	case p.isDynamic(a):
		return fault.New(fault.InvalidArgument, "address %s: is in the dynamic range of subnet %q", a, p.ID)
	default:
		return nil
	}
}

// take gives an address to a VM: the wanted one, or the lowest free one.
func (p *pool) take(want netip.Addr, l lease) (netip.Addr, error) {
	if p.closing {
		return want, fault.New(fault.Unavailable, "subnet %q: is just being changed; try again", p.ID)
	}
	if want.IsValid() {
		if err := p.checkHost(want); err != nil {
			return want, err
		}
		if other, taken := p.used[want]; taken {
			return want, fault.New(fault.AlreadyExists, "address %s: in use by VM %s", want, other.uuid)
		}
		if _, taken := p.external[want]; taken {
			return want, fault.New(fault.AlreadyExists, "address %s: is leased to a machine that is no VM", want)
		}
		p.used[want] = l
		return want, nil
	}
	for _, first := range []netip.Addr{p.hint, p.First} {
		if first.Less(p.First) {
			continue // there is no hint
		}
		for a := range p.candidatesFrom(first) {
			p.used[a], p.hint = l, a
			return a, nil
		}
	}
	return want, fault.New(fault.ResourceExhausted, "subnet %q: no free addresses in pool", p.ID)
}

// leases returns what the virtualiser's DHCP server is told. It refuses a name twice, so only the first one who has it is given it.
func (p *pool) leases(silent map[string]bool) []hypervisor.Lease {
	type held struct {
		lease
		address netip.Addr
	}
	var ordered []held
	for _, set := range []map[netip.Addr]lease{p.used, p.external} {
		for a, l := range set {
			if l.mac != "" && !silent[l.uuid] {
				ordered = append(ordered, held{l, a})
			}
		}
	}
	slices.SortFunc(ordered, func(a, b held) int { return int(a.order) - int(b.order) })
	var all []hypervisor.Lease
	names := make(map[string]bool)
	for _, h := range ordered {
		name := h.hostname
		if names[strings.ToLower(name)] {
			name = ""
		}
		names[strings.ToLower(name)] = true
		all = append(all, hypervisor.Lease{MAC: h.mac, Address: h.address, Hostname: name})
	}
	return all
}

// macOf is the MAC address of a network card whose owner wished for none: locally administered, and unique as the IP address is.
func macOf(a netip.Addr) string {
	b := a.As4()
	return fmt.Sprintf("52:54:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3])
}
