package network

import (
	"context"
	"net/netip"
)

// Surrender takes a VM's addresses from it and out of the pools: it has them at another host from now on, so that nobody here may get them. Somebody who
// watches all hosts may put them into a pool again. After an error the VM has them still.
func (s *Service) Surrender(ctx context.Context, uuid string) error {
	err := s.changeOwn(ctx, uuid, func(p *pool, a netip.Addr) { p.remove(a) })
	if err == nil {
		s.Release(uuid)
	}
	return err
}

// Adopt puts a VM's addresses into the pools: it has come from another host with them, and they stay here when it ends. After an error they do not.
func (s *Service) Adopt(ctx context.Context, uuid string) error {
	return s.changeOwn(ctx, uuid, func(p *pool, a netip.Addr) {
		delete(p.removed, a)
		if !p.ranged(a) {
			p.extra[a] = p.used[a].mac
		}
	})
}

// changeOwn changes the pools by the addresses of a VM, and keeps that.
func (s *Service) changeOwn(ctx context.Context, uuid string, change func(*pool, netip.Addr)) error {
	s.sync.Lock()
	defer s.sync.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock() // writing takes a moment, in which no address may be given away
	before := make(map[*pool]poolRecord)
	for _, p := range s.subnets {
		before[p] = p.record()
		for a, l := range p.used {
			if l.uuid == uuid {
				change(p, a)
			}
		}
	}
	err := s.savePools(ctx)
	if err != nil {
		for p, r := range before {
			p.restore(r)
		}
		return err
	}
	s.publishLocked()
	return nil
}

// ranged reports whether an address is in the range that the pool began with.
func (p *pool) ranged(a netip.Addr) bool {
	return p.First.IsValid() && !a.Less(p.First) && !p.Last.Less(a)
}
