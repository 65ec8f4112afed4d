package network

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/store"
)

// UpdateSubnets implements NetworkService. A subnet that the host does not manage is on the bridge that has the subnet's id as its name; with a VLAN it is
// on a bridge that is made for it, which the VLAN of the host's uplink is joined to.
func (s *Service) UpdateSubnets(ctx context.Context, req *hypervisorv1.UpdateSubnetsRequest) (*hypervisorv1.UpdateSubnetsResponse, error) {
	s.sync.Lock()
	defer s.sync.Unlock()
	if err := s.learnForSix(ctx, req); err != nil {
		return nil, err
	}
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
		s.serveAgain(context.WithoutCancel(ctx), idsOf(c.rebuilt))
		return nil, err
	}
	s.commit(c)
	s.serveAgain(ctx, c.touched)
	return &hypervisorv1.UpdateSubnetsResponse{}, nil
}

// learnForSix finds out whether the virtualiser's DHCP server serves subnets, if one is to have IPv6, which it does not lease. The caller holds sync.
func (s *Service) learnForSix(ctx context.Context, req *hypervisorv1.UpdateSubnetsRequest) error {
	for _, n := range slices.Concat(req.GetAdd(), req.GetChange()) {
		if n.GetIpv6Gateway() != "" {
			return s.learnSharing(ctx)
		}
	}
	return nil
}

func idsOf(pools []*pool) []string {
	ids := make([]string, len(pools))
	for i, p := range pools {
		ids[i] = p.ID
	}
	return ids
}

// close keeps VMs from being given addresses of subnets that are about to go, or lets them again. The caller holds the service's mu.
func (c *change) close(closing bool) {
	for _, p := range slices.Concat(c.rebuilt, c.shut) {
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
