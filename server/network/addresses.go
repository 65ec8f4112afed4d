package network

import (
	"context"
	"maps"
	"net/netip"
	"slices"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// ChangeAddressPool implements NetworkService.
func (s *Service) ChangeAddressPool(
	ctx context.Context, req *hypervisorv1.ChangeAddressPoolRequest,
) (*hypervisorv1.ChangeAddressPoolResponse, error) {
	s.sync.Lock()
	defer s.sync.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock() // writing takes a moment, in which no address may be given away
	before := make(map[*pool]poolRecord)
	for _, p := range s.subnets {
		before[p] = p.record()
	}
	err := s.changePool(req)
	if err == nil {
		err = s.savePools(ctx)
	}
	if err != nil {
		for p, r := range before {
			p.restore(r)
		}
		return nil, err
	}
	s.publishLocked()
	return &hypervisorv1.ChangeAddressPoolResponse{}, nil
}

// changePool makes the changes in memory. After an error the pools are half changed. The caller holds mu.
func (s *Service) changePool(req *hypervisorv1.ChangeAddressPoolRequest) error {
	for _, a := range req.GetAddressesToRemove() {
		if err := s.removeAddress(a); err != nil {
			return fault.Wrap(err, "addresses_to_remove")
		}
	}
	for _, a := range req.GetAddressesToAdd() {
		if err := s.addAddress(a); err != nil {
			return fault.Wrap(err, "addresses_to_add")
		}
	}
	for id, most := range req.GetMaximumFreeAddresses() {
		if id != "" && s.find(id) == nil {
			return fault.New(fault.NotFound, "maximum_free_addresses: subnet %q: no such subnet", id)
		}
		for _, p := range s.subnets {
			if id == "" || id == p.ID {
				p.trim(int(most))
			}
		}
	}
	return nil
}

// parsePooled is parseWant for an address of the pool.
func parsePooled(a *hypervisorv1.Address) (ip netip.Addr, mac string, err error) {
	if six := a.GetIpv6Address(); six != "" {
		return ip, "", fault.New(fault.InvalidArgument, "ipv6_address: %q: the pool has IPv4 addresses only; a VM gets an IPv6 address where it is created with one", six)
	}
	return parseWant(a)
}

func (s *Service) addAddress(a *hypervisorv1.Address) error {
	ip, mac, err := parsePooled(a)
	if err != nil {
		return err
	}
	p := s.of(ip)
	if !ip.IsValid() || p == nil {
		return fault.New(fault.InvalidArgument, "address %q: is in no subnet of this host", a.GetIpAddress())
	}
	if err := p.checkHost(ip); err != nil {
		return err
	}
	if p.has(ip) {
		return fault.New(fault.AlreadyExists, "address %s: is in the pool already", ip)
	}
	if owner, taken := s.macInPool(mac); taken {
		return fault.New(fault.AlreadyExists, "MAC address %s: belongs to %s", mac, owner)
	}
	if len(p.extra) >= maxPool {
		return fault.New(fault.ResourceExhausted, "subnet %q: has %d addresses besides its range, which is all it can have", p.ID, maxPool)
	}
	p.extra[ip] = mac
	return nil
}

// macInPool returns what has a MAC address, used or free. The caller holds mu.
func (s *Service) macInPool(mac string) (owner string, taken bool) {
	if uuid, used := s.macInUse(mac); used {
		return "VM " + uuid, true
	}
	for _, p := range s.subnets {
		for a, m := range p.extra {
			if mac != "" && m == mac {
				return "address " + a.String(), true
			}
		}
	}
	return "", false
}

// removeAddress removes the free address with an IP address, a MAC address, or both.
func (s *Service) removeAddress(a *hypervisorv1.Address) error {
	ip, mac, err := parsePooled(a)
	if err != nil {
		return err
	}
	if uuid, used := s.macInUse(mac); used {
		return fault.New(fault.FailedPrecondition, "MAC address %s: in use by VM %s", mac, uuid)
	}
	if !ip.IsValid() {
		if ip = s.freeByMAC(mac); !ip.IsValid() {
			return fault.New(fault.NotFound, "MAC address %q: no free address has it", mac)
		}
	}
	p := s.of(ip)
	if p == nil || !p.has(ip) {
		return fault.New(fault.NotFound, "address %s: is not in the pool", ip)
	}
	if l, used := p.used[ip]; used {
		return fault.New(fault.FailedPrecondition, "address %s: in use by VM %s", ip, l.uuid)
	}
	if mac != "" && p.mac(ip) != mac {
		return fault.New(fault.NotFound, "address %s: has MAC address %s, not %s", ip, p.mac(ip), mac)
	}
	p.remove(ip)
	return nil
}

func (s *Service) freeByMAC(mac string) netip.Addr {
	if mac != "" {
		for _, p := range s.subnets {
			for a := range p.candidates() {
				if p.mac(a) == mac {
					return a
				}
			}
		}
	}
	return netip.Addr{}
}

// remove takes a free address out of the pool.
func (p *pool) remove(a netip.Addr) {
	delete(p.extra, a)
	if p.ranged(a) {
		p.removed[a] = true
	}
}

// trim removes the last free addresses beyond a number.
func (p *pool) trim(most int) {
	free := slices.Collect(p.candidates())
	for _, a := range free[min(most, len(free)):] {
		p.remove(a)
	}
}

// poolRecord is how a pool differs from its range.
type poolRecord struct {
	Added   map[netip.Addr]string `json:"added,omitempty"`
	Removed []netip.Addr          `json:"removed,omitempty"`
}

func (p *pool) record() poolRecord {
	return poolRecord{Added: maps.Clone(p.extra), Removed: slices.SortedFunc(maps.Keys(p.removed), netip.Addr.Compare)}
}

func (p *pool) restore(r poolRecord) {
	p.extra, p.removed = make(map[netip.Addr]string), make(map[netip.Addr]bool)
	maps.Copy(p.extra, r.Added)
	for _, a := range r.Removed {
		p.removed[a] = true
	}
}
