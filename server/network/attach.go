package network

import (
	"context"
	"log/slog"
	"net/netip"
	"time"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
	"github.com/hyperplane-project/hyperplane/server/netplane"
)

// resumeEvery is how often a subnet of running VMs that could not be served is tried again.
const resumeEvery = 5 * time.Second

// Attach makes the subnet ready for a network card and returns how the card connects to it. The subnet's DHCP server then knows all
// addresses in use.
func (s *Service) Attach(ctx context.Context, subnetID string) (hypervisor.NIC, error) {
	s.sync.Lock()
	defer s.sync.Unlock()
	return s.attach(ctx, subnetID)
}

// attach is Attach for whoever holds sync.
func (s *Service) attach(ctx context.Context, subnetID string) (hypervisor.NIC, error) {
	if err := s.learnSharing(ctx); err != nil {
		return hypervisor.NIC{}, err
	}
	s.mu.Lock()
	p, err := s.choose(subnetID, netip.Addr{})
	if err != nil {
		s.mu.Unlock()
		return hypervisor.NIC{}, err
	}
	n, made, mode, leases := p.Subnet, s.made[p.ID], s.mode(p), p.leases(s.silent)
	s.mu.Unlock()
	if n.Gateway6.IsValid() && mode == byVirtualiser { // which was not known before the virtualiser was reached
		return hypervisor.NIC{}, notByVirtualiser("ipv6_gateway", n.ID)
	}
	nic := hypervisor.NIC{Network: networkName(n.ID)}
	if n.Existing {
		nic = hypervisor.NIC{Bridge: n.Bridge}
	} else if !made {
		if mode, err = s.ensure(ctx, n, mode); err != nil {
			return nic, fault.Wrap(err, "subnet %q", n.ID)
		}
	}
	switch mode {
	case byPlane:
		err = s.Plane.Serve(ctx, s.served(n))
	case byVirtualiser:
		err = fault.Wrap(s.Driver.SetLeases(ctx, nic.Network, leases), "subnet %q: DHCP leases", n.ID)
	default:
	}
	return nic, err
}

func networkName(subnet string) string { return "hyperplane-" + subnet }

// ensure has the virtualiser make a subnet's network. One that machines are connected to can not change from the virtualiser's DHCP server to ours: it is
// served as it is until they have stopped and the daemon was started again, unless the configuration names the server or the subnet has IPv6.
func (s *Service) ensure(ctx context.Context, n Subnet, mode string) (used string, err error) {
	shape := hypervisor.Network{Name: networkName(n.ID), Bridge: n.Bridge, Gateway: n.Gateway, Gateway6: n.Gateway6, Isolated: n.Isolated, NoDHCP: true}
	if mode != byVirtualiser {
		err = s.Driver.EnsureNetwork(ctx, shape)
		if n.DHCP != "" || n.Gateway6.IsValid() || mode != byPlane || !fault.Is(err, fault.FailedPrecondition) {
			return mode, s.noteMade(n.ID, mode, err)
		}
	}
	shape.NoDHCP, shape.Domain, shape.DNS = false, n.Domain, n.DNS
	if old := s.Driver.EnsureNetwork(ctx, shape); old != nil {
		if err == nil {
			err = old
		}
		return mode, err
	}
	if err != nil {
		s.Log.LogAttrs(ctx, slog.LevelWarn, "a subnet keeps the virtualiser's DHCP server because VMs use it: it has no metadata service until they are "+
			"stopped and the daemon is restarted", slog.String("subnet", n.ID), slog.Any("reason", err))
	}
	return byVirtualiser, s.noteMade(n.ID, byVirtualiser, nil)
}

func (s *Service) noteMade(id, mode string, err error) error {
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.made[id] = true
	if p := s.find(id); p != nil {
		p.actual = mode
	}
	return nil
}

// learnSharing finds out whether the virtualiser's bridges are in this process's network.
func (s *Service) learnSharing(ctx context.Context) error {
	s.mu.Lock()
	known := s.shares != nil
	s.mu.Unlock()
	if known {
		return nil
	}
	shares, err := s.Driver.(sharer).SharesNetwork(ctx) //nolint:forcetypeassert // Open has seen that it is one
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shares = &shares
	s.Feed.SetSubnets(subnetList(s.describe()))
	return nil
}

// mode says who serves a subnet. The caller holds mu.
func (s *Service) mode(p *pool) string {
	switch {
	case p.actual != "":
		return p.actual
	case p.DHCP != "":
		return p.DHCP
	case p.Existing:
		return byNobody
	case s.shares == nil || *s.shares:
		return byPlane
	default:
		return byVirtualiser
	}
}

func (s *Service) served(n Subnet) netplane.Subnet {
	return netplane.Subnet{
		ID: n.ID, Bridge: n.Bridge, Gateway: n.Gateway, Isolated: n.Isolated, Domain: n.Domain, DNS: n.DNS, First: n.DynamicFirst, Last: n.DynamicLast,
		Metadata: !n.DisableMetadata, VLAN: s.vlan(n), Book: book{s, n.ID}, Gateway6: n.Gateway6, DNS6: n.DNS6, Book6: book{s, n.ID},
	}
}

// Run serves the subnets that have VMs, which may run since before this process, until ctx ends. What can not be served yet is tried again.
func (s *Service) Run(ctx context.Context) error {
	again := time.NewTicker(resumeEvery)
	defer again.Stop()
	for s.resume(ctx) {
		select {
		case <-again.C:
		case <-ctx.Done():
			return s.close(ctx)
		}
	}
	<-ctx.Done()
	return s.close(ctx)
}

// close ends the plane's work and returns why: ctx has ended.
func (s *Service) close(ctx context.Context) error {
	if s.Plane != nil {
		s.Plane.Close(context.WithoutCancel(ctx))
	}
	return ctx.Err()
}

// resume serves the subnets in use and reports whether one of them must be tried again.
func (s *Service) resume(ctx context.Context) (again bool) {
	if s.Plane == nil {
		return false
	}
	if err := s.learnSharing(ctx); err != nil {
		return true
	}
	for _, id := range s.inUse() {
		if _, err := s.Attach(ctx, id); err != nil && !fault.Is(err, fault.NotFound) && ctx.Err() == nil {
			s.Log.LogAttrs(ctx, slog.LevelWarn, "a subnet with VMs is not served", slog.String("subnet", id), slog.Any("error", err))
			again = true
		}
	}
	return again
}

// inUse returns the subnets with VMs that the plane serves.
func (s *Service) inUse() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ids []string
	for _, p := range s.subnets {
		if len(p.used) > 0 && s.mode(p) == byPlane {
			ids = append(ids, p.ID)
		}
	}
	return ids
}

// vlan is the VLAN that is joined to a subnet's bridge; 0 = none.
func (s *Service) vlan(n Subnet) uint32 {
	if s.GivenBridges[n.ID] != "" {
		return 0
	}
	return n.VLAN
}
