package network

import (
	"context"
	"net/netip"
	"strings"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// externals is one set of external leases. They are in memory only: whoever registers them does it again after a restart.
type externals struct {
	leases map[netip.Addr]lease
}

// RegisterExternalLeases implements NetworkService.
func (s *Service) RegisterExternalLeases(
	ctx context.Context, req *hypervisorv1.RegisterExternalLeasesRequest,
) (*hypervisorv1.RegisterExternalLeasesResponse, error) {
	s.sync.Lock()
	defer s.sync.Unlock()
	next, err := s.replaceExternal(ctx, s.registered, req.GetAddresses(), req.GetHostnames())
	if err != nil {
		return nil, err
	}
	s.registered = next
	return &hypervisorv1.RegisterExternalLeasesResponse{}, nil
}

// ServeExternal serves leases besides those of others until drop is called. replace puts other leases into their place.
func (s *Service) ServeExternal() (replace func(context.Context, *hypervisorv1.ExternalLeases) error, drop func(context.Context) error) {
	var mine *externals
	replace = func(ctx context.Context, l *hypervisorv1.ExternalLeases) error {
		s.sync.Lock()
		defer s.sync.Unlock()
		next, err := s.replaceExternal(ctx, mine, l.GetAddresses(), l.GetHostnames())
		if err == nil {
			mine = next
		}
		return err
	}
	drop = func(ctx context.Context) error {
		err := replace(ctx, &hypervisorv1.ExternalLeases{})
		s.mu.Lock()
		defer s.mu.Unlock()
		// Also if the virtualiser could not be told: it is with the next change.
		delete(s.external, mine)
		s.joinExternal()
		return err
	}
	return replace, drop
}

// replaceExternal puts a set of external leases in the place of another one (nil = none). The caller holds sync.
func (s *Service) replaceExternal(ctx context.Context, old *externals, addresses []*hypervisorv1.Address, names []string) (*externals, error) {
	if len(names) > 0 && len(names) != len(addresses) {
		return nil, fault.New(fault.InvalidArgument, "hostnames: there are %d for %d addresses; give one for each, or none", len(names), len(addresses))
	}
	next, err := s.swapExternal(old, addresses, names)
	if err != nil {
		return nil, err
	}
	if err := s.tellVirtualiser(ctx); err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.external, next)
		if old != nil {
			s.external[old] = struct{}{}
		}
		s.joinExternal()
		return nil, err
	}
	return next, nil
}

func (s *Service) swapExternal(old *externals, addresses []*hypervisorv1.Address, names []string) (*externals, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := &externals{leases: make(map[netip.Addr]lease)}
	macs := make(map[string]bool)
	for i, a := range addresses {
		name := ""
		if len(names) > 0 {
			name = names[i]
		}
		ip, l, err := s.checkExternal(a, name)
		if err != nil {
			return nil, err
		}
		if _, twice := next.leases[ip]; twice || macs[l.mac] {
			return nil, fault.New(fault.InvalidArgument, "addresses: %s or %s is there twice", ip, l.mac)
		}
		if err := next.checkSix(l.six, fault.InvalidArgument, "is there twice"); err != nil {
			return nil, err
		}
		for e := range s.external {
			if e == old {
				continue
			}
			if other, taken := e.leases[ip]; taken {
				return nil, fault.New(fault.AlreadyExists, "address %s: is leased to %s by another registration", ip, other.mac)
			}
			if err := e.checkSix(l.six, fault.AlreadyExists, "is leased by another registration"); err != nil {
				return nil, err
			}
		}
		s.order++
		l.order = s.order
		next.leases[ip], macs[l.mac] = l, true
	}
	delete(s.external, old)
	s.external[next] = struct{}{}
	s.joinExternal()
	return next, nil
}

// checkSix refuses an IPv6 address that one of the leases has. None is fine.
func (e *externals) checkSix(six netip.Addr, code fault.Code, what string) error {
	for _, l := range e.leases {
		if six.IsValid() && l.six == six {
			return fault.New(code, "addresses: ipv6_address: %s %s, for %s", six, what, l.mac)
		}
	}
	return nil
}

func (s *Service) checkExternal(a *hypervisorv1.Address, name string) (netip.Addr, lease, error) {
	ip, mac, err := parseWant(a)
	if err != nil {
		return ip, lease{}, err
	}
	if !ip.IsValid() || mac == "" {
		return ip, lease{}, fault.New(fault.InvalidArgument, "addresses: an external lease needs an IP address and a MAC address")
	}
	if strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.") != "" || len(name) > 253 {
		return ip, lease{}, fault.New(fault.InvalidArgument, "hostnames: %q has more than letters, digits, hyphens and dots", name)
	}
	p := s.of(ip)
	if p == nil {
		return ip, lease{}, fault.New(fault.InvalidArgument, "address %s: is in no subnet of this host", ip)
	}
	if err := p.checkHost(ip); err != nil {
		return ip, lease{}, err
	}
	if l, used := p.used[ip]; used {
		return ip, lease{}, fault.New(fault.AlreadyExists, "address %s: in use by VM %s", ip, l.uuid)
	}
	if uuid, used := s.macInUse(mac); used {
		return ip, lease{}, fault.New(fault.AlreadyExists, "MAC address %s: in use by VM %s", mac, uuid)
	}
	six, err := s.externalSix(p, a)
	return ip, lease{hostname: name, mac: mac, six: six}, err
}

// externalSix returns the IPv6 address of an external lease in a subnet, if no VM has it. Those of other registrations are checked with them.
func (s *Service) externalSix(p *pool, a *hypervisorv1.Address) (netip.Addr, error) {
	six, err := parseIPv6("ipv6_address", a.GetIpv6Address())
	if err != nil || !six.IsValid() {
		return six, err
	}
	if s.mode(p) == byVirtualiser {
		return six, notByVirtualiser("ipv6_address", p.ID)
	}
	vms := pool{Subnet: p.Subnet, used: p.used}
	return six, vms.freeSix(six)
}

// joinExternal tells the subnets their external leases. The caller holds mu.
func (s *Service) joinExternal() {
	for _, p := range s.subnets {
		clear(p.external)
		for e := range s.external {
			for a, l := range e.leases {
				if p.Gateway.Masked().Contains(a) {
					p.external[a] = l
				}
			}
		}
	}
	s.publishLocked()
}

// tellVirtualiser tells the virtualiser's DHCP servers their leases, as far as there are such servers already. The caller holds sync.
func (s *Service) tellVirtualiser(ctx context.Context) error {
	s.mu.Lock()
	var ids []string
	for _, p := range s.subnets {
		if s.made[p.ID] && s.mode(p) == byVirtualiser {
			ids = append(ids, p.ID)
		}
	}
	s.mu.Unlock()
	for _, id := range ids {
		if _, err := s.attach(ctx, id); err != nil {
			return err
		}
	}
	return nil
}
