package network

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/netip"
	"slices"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/store"
)

// change is what UpdateSubnets is about to do.
type change struct {
	next []*pool
	// rebuilt are subnets, as they were, whose network is made anew with another shape or not at all.
	rebuilt []*pool
	// records are written, by id.
	records map[string]subnetRecord
	// touched are the ids of subnets that stay, and are served in another way.
	touched []string
}

// UpdateSubnets implements NetworkService. A subnet that the host does not manage is on the bridge that has the subnet's id as its name; with a VLAN it is
// on a bridge that is made for it, which the VLAN of the host's uplink is joined to.
func (s *Service) UpdateSubnets(ctx context.Context, req *hypervisorv1.UpdateSubnetsRequest) (*hypervisorv1.UpdateSubnetsResponse, error) {
	s.sync.Lock()
	defer s.sync.Unlock()
	s.mu.Lock()
	c, err := s.plan(req)
	if err == nil {
		c.close(true)
	}
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if err = errors.Join(s.tearDown(ctx, c), ctx.Err()); err == nil {
		err = s.save(ctx, c.write)
	}
	if err != nil {
		s.mu.Lock()
		c.close(false)
		s.mu.Unlock()
		return nil, err
	}
	s.commit(c)
	s.serveAgain(ctx, c.touched)
	return &hypervisorv1.UpdateSubnetsResponse{}, nil
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
	if n.Existing != old.Existing || n.VLAN != old.VLAN {
		n.Bridge, n.DHCP = "", ""
		s.place(&n)
	}
	if err := s.placed(n); err != nil {
		return err
	}
	reshaped := n.Gateway != old.Gateway || n.Existing != old.Existing || n.VLAN != old.VLAN ||
		(s.mode(old) == byVirtualiser && (n.Domain != old.Domain || !slices.Equal(n.DNS, old.DNS)))
	if reshaped && len(old.used) > 0 {
		return inUse(old, "given another gateway, bridge or VLAN, nor what the virtualiser's DHCP server says,")
	}
	next := *old
	next.Subnet = n
	if reshaped {
		next.actual = ""
		c.rebuilt = append(c.rebuilt, old)
	}
	if err := next.fits(); err != nil {
		return err
	}
	c.next[at] = &next
	c.records[n.ID] = subnetRecord{Subnet: n}
	c.touched = append(c.touched, n.ID)
	return nil
}

// fits refuses a shape that the pool's addresses are not in.
func (p *pool) fits() error {
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
	c.next = append(c.next, newPool(n))
	c.records[n.ID] = subnetRecord{Subnet: n}
	return nil
}

// place says which bridge a subnet of the API is on. Who asks for a subnet on a given bridge expects the host to lease its addresses, as hypervisors of old do.
func (s *Service) place(n *Subnet) {
	n.Bridge = bridgeName(n.ID)
	if n.Existing && n.VLAN == 0 {
		n.Bridge = n.ID
	}
	if n.Existing && s.Plane != nil && (s.shares == nil || *s.shares) {
		n.DHCP = byPlane
	}
}

// placed refuses a subnet that can not be where it should be.
func (s *Service) placed(n Subnet) error {
	if n.VLAN != 0 && !s.Uplink {
		return fault.New(fault.FailedPrecondition, "vlan_id %d: this host has no uplink for VLANs; set uplink in its configuration", n.VLAN)
	}
	return n.Validate()
}

// close keeps VMs from being given addresses of subnets that are about to go, or lets them again. The caller holds the service's mu.
func (c *change) close(closing bool) {
	for _, p := range c.rebuilt {
		p.closing = closing
	}
}

// tearDown removes the networks of subnets that go or change their shape. What is needed after all is made again by the next Attach.
func (s *Service) tearDown(ctx context.Context, c *change) error {
	for _, p := range c.rebuilt {
		s.mu.Lock()
		delete(s.made, p.ID)
		s.mu.Unlock()
		if s.Plane != nil {
			if err := s.Plane.Stop(ctx, p.ID); err != nil {
				return err
			}
		}
		if p.Existing {
			continue
		}
		if err := s.Driver.RemoveNetwork(ctx, networkName(p.ID)); err != nil {
			return fault.Wrap(err, "subnet %q", p.ID)
		}
	}
	return nil
}

func (c *change) write(w store.Writer) error {
	for id, r := range c.records {
		if err := put(w, subnetPrefix+id, r); err != nil {
			return err
		}
		if r.Deleted {
			if err := w.Delete(poolPrefix + id); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *Service) commit(c *change) {
	s.mu.Lock()
	for _, p := range c.next {
		if old := s.find(p.ID); old != nil {
			p.closing = false
			// Addresses were given while the change was written: the maps are those of the old pool.
			maps.Copy(p.used, old.used)
		}
	}
	s.subnets = c.next
	s.joinExternal()
	s.mu.Unlock()
	s.publish()
}

// serveAgain has subnets that are in use served as they are now.
func (s *Service) serveAgain(ctx context.Context, ids []string) {
	for _, id := range ids {
		s.mu.Lock()
		p := s.find(id)
		served := p != nil && len(p.used) > 0
		s.mu.Unlock()
		if !served {
			continue
		}
		if _, err := s.attach(ctx, id); err != nil {
			s.Log.LogAttrs(ctx, slog.LevelWarn, "a changed subnet is not served yet", slog.String("subnet", id), slog.Any("error", err))
		}
	}
}
