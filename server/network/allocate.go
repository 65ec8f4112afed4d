package network

import (
	"net"
	"net/netip"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/principal"
)

// Request is the wish for an address.
type Request struct {
	UUID, Hostname string
	// SubnetID is the subnet; empty = the one in which the wanted address is, or the only one there is.
	SubnetID string
	// Want may hold an IP address, a MAC address, both or nothing.
	Want   *hypervisorv1.Address
	Caller principal.Caller
	// Created says that the VM is new: where all addresses are given to the pool by somebody who has others for other hosts, it gets only what is there.
	Created bool
}

// Allocate gives a VM an address and returns it with the subnet's id. The first one that a VM has is its primary address.
func (s *Service) Allocate(req Request) (*hypervisorv1.Address, string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	want, mac, err := parseWant(req.Want)
	if err != nil {
		return nil, "", err
	}
	p, err := s.choose(req.SubnetID, want)
	if err != nil {
		return nil, "", err
	}
	if restricted := len(p.AllowedUsers)+len(p.AllowedGroups) > 0; restricted && !req.Caller.Power &&
		!req.Caller.OwnsAny(p.AllowedUsers, p.AllowedGroups) {
		return nil, "", fault.New(fault.PermissionDenied, "subnet %q: %s may not create VMs in it", p.ID, req.Caller.Name)
	}
	six, err := s.wantSix(p, req.Want)
	if err != nil {
		return nil, "", err
	}
	if other, taken := s.macInUse(mac); taken {
		return nil, "", fault.New(fault.AlreadyExists, "MAC address %s: in use by VM %s", mac, other)
	}
	s.order++
	l := lease{uuid: req.UUID, hostname: req.Hostname, mac: mac, six: six, primary: !s.hasAddress(req.UUID), order: s.order}
	if req.Created && want.IsValid() && !p.First.IsValid() && !p.has(want) {
		return nil, "", fault.New(fault.FailedPrecondition, "address: %s not found in free pool of subnet %q", want, p.ID)
	}
	ip, err := p.take(want, l)
	if err != nil {
		return nil, "", err
	}
	if mac == "" {
		l.mac = p.mac(ip)
		p.used[ip] = l
	}
	s.publishLocked()
	return &hypervisorv1.Address{IpAddress: ip.String(), MacAddress: l.mac, Ipv6Address: text(six)}, p.ID, nil
}

// wantSix returns the IPv6 address that a card in a subnet is to have, if it can have it. The caller holds mu.
func (s *Service) wantSix(p *pool, want *hypervisorv1.Address) (netip.Addr, error) {
	six, err := parseIPv6("ipv6_address", want.GetIpv6Address())
	if err != nil || !six.IsValid() {
		return six, err
	}
	if s.mode(p) == byVirtualiser {
		return six, notByVirtualiser("ipv6_address", p.ID)
	}
	return six, p.freeSix(six)
}

func parseWant(want *hypervisorv1.Address) (ip netip.Addr, mac string, err error) {
	if text := want.GetIpAddress(); text != "" {
		if ip, err = netip.ParseAddr(text); err != nil {
			return ip, "", fault.New(fault.InvalidArgument, "address %q: not an IP address", text)
		}
		if ip = ip.Unmap(); !ip.Is4() {
			return ip, "", fault.New(fault.InvalidArgument, "ip_address: %s is an IPv6 address; ip_address is of IPv4, and ipv6_address of IPv6 beside it", ip)
		}
	}
	if text := want.GetMacAddress(); text != "" {
		hw, err := net.ParseMAC(text)
		if err != nil || len(hw) != 6 || hw[0]&1 != 0 {
			return ip, "", fault.New(fault.InvalidArgument, "MAC address %q: not the address of one card (six bytes, first one even)", text)
		}
		mac = hw.String()
	}
	return ip, mac, nil
}

// macInUse returns who has a MAC address. The caller holds mu.
func (s *Service) macInUse(mac string) (uuid string, taken bool) {
	if mac == "" {
		return "", false
	}
	for _, p := range s.subnets {
		for _, l := range p.used {
			if l.mac == mac {
				return l.uuid, true
			}
		}
	}
	return "", false
}

// hasAddress reports whether a VM has an address. The caller holds mu.
func (s *Service) hasAddress(uuid string) bool {
	for _, p := range s.subnets {
		for _, l := range p.used {
			if l.uuid == uuid {
				return true
			}
		}
	}
	return false
}

// Release takes back all addresses of a VM.
func (s *Service) Release(uuid string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.subnets {
		for a, l := range p.used {
			if l.uuid == uuid {
				delete(p.used, a)
				if a.Less(p.hint) {
					p.hint = a
				}
			}
		}
	}
	delete(s.silent, uuid)
	s.publishLocked()
}
