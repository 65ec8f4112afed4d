package network

import (
	"errors"
	"net/netip"
	"slices"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// change is what UpdateSubnets is about to do.
type change struct {
	next []*pool
	// rebuilt are subnets, as they were, whose network is made anew with another shape or not at all.
	rebuilt []*pool
	// shut are subnets, as they were, that give no addresses until the change is done, though they are not rebuilt.
	shut []*pool
	// records are written, by id.
	records map[string]subnetRecord
	// touched are the ids of subnets that stay, and are served in another way.
	touched []string
}

// plan checks the whole request against the subnets and says what is to be done. The caller holds mu.
func (s *Service) plan(req *hypervisorv1.UpdateSubnetsRequest) (*change, error) {
	c := &change{next: slices.Clone(s.subnets), records: make(map[string]subnetRecord)}
	for _, id := range req.GetDelete() {
		if err := c.remove(id); err != nil {
			return nil, fault.Wrap(err, "delete")
		}
	}
	for _, m := range req.GetChange() {
		if err := c.replace(m, s); err != nil {
			return nil, fault.Wrap(err, "change: subnet %q", m.GetId())
		}
	}
	for _, m := range req.GetAdd() {
		if err := c.add(m, s); err != nil {
			return nil, fault.Wrap(err, "add: subnet %q", m.GetId())
		}
	}
	return c, checkTogether(c.next)
}

func (c *change) find(id string) int {
	return slices.IndexFunc(c.next, func(p *pool) bool { return p.ID == id })
}

func (c *change) once(id string) error {
	if _, twice := c.records[id]; twice {
		return fault.New(fault.InvalidArgument, "subnet %q: is named twice", id)
	}
	return nil
}

func (c *change) remove(id string) error {
	at := c.find(id)
	if at < 0 {
		return errors.Join(c.once(id), fault.New(fault.NotFound, "subnet %q: no such subnet", id))
	}
	p := c.next[at]
	if len(p.used) > 0 {
		return inUse(p, "deleted")
	}
	c.next = slices.Delete(c.next, at, at+1)
	c.rebuilt = append(c.rebuilt, p)
	c.records[id] = subnetRecord{Deleted: true}
	return nil
}

func inUse(p *pool, what string) error {
	for a, l := range p.used {
		return fault.New(fault.FailedPrecondition, "subnet %q: can not be %s: VM %s has address %s in it", p.ID, what, l.uuid, a)
	}
	return nil
}

// attached refuses another gateway, bridge or VLAN, or other words of the virtualiser's DHCP server, while a VM is on the network. One that does not run is put
// onto the network of another shape when it starts. The caller holds mu.
func (s *Service) attached(p *pool) error {
	for a, l := range p.used {
		if s.Alive == nil || s.Alive(l.uuid) {
			return fault.New(fault.FailedPrecondition, "subnet %q: can not be given another gateway, bridge or VLAN, nor what the virtualiser's DHCP server says: "+
				"VM %s runs with address %s in it; stop it first", p.ID, l.uuid, a)
		}
	}
	return nil
}

func (c *change) replace(m *hypervisorv1.Subnet, s *Service) error {
	at := c.find(m.GetId())
	if at < 0 {
		return fault.New(fault.NotFound, "no such subnet")
	}
	if err := c.once(m.GetId()); err != nil {
		return err
	}
	old := c.next[at]
	n, err := parse(m, old.Subnet)
	if err != nil {
		return err
	}
	if n.Existing != old.Existing || n.VLAN != old.VLAN || s.GivenBridges[n.ID] != "" {
		n.Bridge, n.DHCP = "", ""
		s.place(&n)
	}
	if err := s.placed(n); err != nil {
		return err
	}
	reshaped := n.Gateway != old.Gateway || n.Existing != old.Existing || n.Bridge != old.Bridge || n.VLAN != old.VLAN ||
		(s.mode(old) == byVirtualiser && (n.Domain != old.Domain || !slices.Equal(n.DNS, old.DNS)))
	if reshaped {
		if err := s.attached(old); err != nil {
			return err
		}
	}
	// Cards need not be given other addresses for this one: it is enough that no VM runs, which the virtualiser knows.
	reshaped = reshaped || (n.Gateway6 != old.Gateway6 && !n.Existing)
	next := *old
	next.Subnet = n
	if reshaped {
		next.actual = ""
		c.rebuilt = append(c.rebuilt, old)
	} else if n.Gateway6 != old.Gateway6 {
		c.shut = append(c.shut, old)
	}
	if err := next.fits(); err != nil {
		return err
	}
	if err := s.leased6(&next); err != nil {
		return err
	}
	c.next[at] = &next
	c.records[n.ID] = subnetRecord{Subnet: n}
	c.touched = append(c.touched, n.ID)
	return nil
}

// leased6 refuses IPv6 for a subnet of the virtualiser's DHCP server. The caller holds mu.
func (s *Service) leased6(p *pool) error {
	if p.Gateway6.IsValid() && s.mode(p) == byVirtualiser {
		return notByVirtualiser("ipv6_gateway", p.ID)
	}
	return nil
}

// fits refuses a shape that the pool's addresses are not in.
func (p *pool) fits() error {
	if err := p.fitSix(); err != nil {
		return err
	}
	for _, all := range []map[netip.Addr]bool{keys(p.used), keys(p.extra), keys(p.external)} {
		for a := range all {
			if err := p.checkHost(a); err != nil {
				return fault.As(fault.FailedPrecondition, err, "an address of the subnet does not fit; remove it first")
			}
		}
	}
	return nil
}

func keys[V any](m map[netip.Addr]V) map[netip.Addr]bool {
	all := make(map[netip.Addr]bool, len(m))
	for a := range m {
		all[a] = true
	}
	return all
}

func (c *change) add(m *hypervisorv1.Subnet, s *Service) error {
	if c.find(m.GetId()) >= 0 {
		return fault.New(fault.AlreadyExists, "there is one with this id")
	}
	n, err := parse(m, Subnet{Bridge: bridgeName(m.GetId())})
	if err != nil {
		return err
	}
	s.place(&n)
	if err := s.placed(n); err != nil {
		return err
	}
	p := newPool(n)
	if err := s.leased6(p); err != nil {
		return err
	}
	c.next = append(c.next, p)
	c.records[n.ID] = subnetRecord{Subnet: n}
	return nil
}

// place says which bridge a subnet of the API is on. Who asks for a subnet on a given bridge expects the host to lease its addresses, as hypervisors of old do.
func (s *Service) place(n *Subnet) {
	n.Bridge = bridgeName(n.ID)
	if bridge, given := s.GivenBridges[n.ID]; given {
		n.Managed = !n.Existing
		n.Bridge, n.Existing = bridge, true
	} else if n.Existing && n.VLAN == 0 {
		n.Bridge = n.ID
	}
	if n.Existing && s.Plane != nil && (s.shares == nil || *s.shares) {
		n.DHCP = byPlane
	}
}

// placed refuses a subnet that can not be where it should be.
func (s *Service) placed(n Subnet) error {
	if n.VLAN != 0 && !s.Uplink && s.GivenBridges[n.ID] == "" {
		return fault.New(fault.FailedPrecondition, "vlan_id %d: this host has no uplink for VLANs; set uplink in its configuration", n.VLAN)
	}
	return n.Validate()
}
