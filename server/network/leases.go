package network

import (
	"net/netip"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/netplane/dhcp"
	"github.com/hyperplane-project/hyperplane/server/netplane/dhcp6"
)

// Lease implements vm.Network. The virtualiser's DHCP server is told with the next Attach.
func (s *Service) Lease(uuid string, give bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if give {
		delete(s.silent, uuid)
	} else {
		s.silent[uuid] = true
	}
}

// Acknowledged implements vm.Network.
func (s *Service) Acknowledged(uuid string) (done <-chan struct{}, stop func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.primaryOf(uuid)
	if p == nil {
		return nil, nil, fault.New(fault.NotFound, "vm %s: has no address", uuid)
	}
	if mode := s.mode(p); mode != byPlane {
		return nil, nil, fault.New(fault.Unimplemented,
			"dhcp_timeout: subnet %q is not served by this daemon (dhcp: %s), so it does not see leases; leave it at 0", p.ID, mode)
	}
	c := make(chan struct{})
	if s.awaited[uuid] == nil {
		s.awaited[uuid] = make(map[chan struct{}]struct{})
	}
	s.awaited[uuid][c] = struct{}{}
	return c, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.awaited[uuid], c)
		if len(s.awaited[uuid]) == 0 {
			delete(s.awaited, uuid)
		}
	}, nil
}

// primaryOf returns the subnet of a VM's primary address, or nil. The caller holds mu.
func (s *Service) primaryOf(uuid string) *pool {
	for _, p := range s.subnets {
		for _, l := range p.used {
			if l.uuid == uuid && l.primary {
				return p
			}
		}
	}
	return nil
}

// book is what the DHCP server of one subnet knows.
type book struct {
	service *Service
	subnet  string
}

var (
	_ dhcp.Book  = book{}
	_ dhcp6.Book = book{}
)

// Host implements dhcp.Book.
func (b book) Host(mac string) (dhcp.Host, bool) {
	s := b.service
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.find(b.subnet)
	if p == nil {
		return dhcp.Host{Silent: true}, true
	}
	if m := s.boots[mac]; m != nil && m.subnet == b.subnet {
		return dhcp.Host{Address: m.address, Hostname: m.hostname, Files: m.names()}, true
	}
	for _, set := range []map[netip.Addr]lease{p.used, p.external} {
		for a, l := range set {
			if l.mac == mac {
				return dhcp.Host{Address: a, Hostname: l.hostname, Silent: s.silent[l.uuid]}, true
			}
		}
	}
	return dhcp.Host{}, false
}

// Card implements dhcp6.Book.
func (b book) Card(mac string) (dhcp6.Card, bool) {
	s := b.service
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.find(b.subnet)
	if p == nil {
		return dhcp6.Card{}, false
	}
	for _, set := range []map[netip.Addr]lease{p.used, p.external} {
		for _, l := range set {
			if l.mac == mac {
				return dhcp6.Card{Address: l.six}, !s.silent[l.uuid]
			}
		}
	}
	return dhcp6.Card{}, false
}

// Busy implements dhcp.Book.
func (b book) Busy(a netip.Addr) bool {
	s := b.service
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.find(b.subnet)
	if p == nil || p.taken(a) {
		return true
	}
	for _, m := range s.boots {
		if m.address == a {
			return true
		}
	}
	return false
}

// Acknowledged implements dhcp.Book.
func (b book) Acknowledged(mac string, a netip.Addr) {
	s := b.service
	s.mu.Lock()
	defer s.mu.Unlock()
	if m := s.boots[mac]; m != nil {
		m.acknowledged()
	}
	p := s.find(b.subnet)
	if p == nil {
		return
	}
	if l := p.used[a]; l.mac == mac && l.primary {
		for c := range s.awaited[l.uuid] {
			close(c)
		}
		delete(s.awaited, l.uuid)
	}
}
