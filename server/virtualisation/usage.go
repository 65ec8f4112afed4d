package virtualisation

import (
	"context"
	"path/filepath"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// user is a machine that has a volume among its disks.
type user struct {
	hypervisor.Machine
	readOnly bool
}

// users returns the machines that have a volume among their disks.
func (s *Service) users(ctx context.Context, v hypervisor.StorageVolume) ([]user, error) {
	machines, err := s.Driver.List(ctx)
	if err != nil {
		return nil, err
	}
	file := resolved(v.Path)
	var all []user
	for _, m := range machines {
		for _, disk := range m.Spec.Disks {
			if disk.File != "" && resolved(disk.File) == file {
				all = append(all, user{m, disk.ReadOnly || disk.CDROM})
				break
			}
		}
	}
	return all, nil
}

// resolved follows symbolic links as far as they lead.
func resolved(path string) string {
	if target, err := filepath.EvalSymlinks(path); err == nil {
		return target
	}
	return filepath.Clean(path)
}

// needUnwritten reports a domain that may be writing to a volume.
func (s *Service) needUnwritten(ctx context.Context, v hypervisor.StorageVolume, action string) error {
	all, err := s.users(ctx, v)
	for _, u := range all {
		if u.State.Alive() && !u.readOnly {
			return fault.New(fault.FailedPrecondition, "volume %q of storage pool %q: domain %q is %s and uses it, so it cannot be %s; stop the domain first",
				v.Name, v.Pool, u.Name, u.State, action)
		}
	}
	return err
}

// needResizable reports why a volume cannot change its size: a domain that is alive has it, a VM has it, which keeps its volumes' sizes itself, or another
// volume is based on it.
func (s *Service) needResizable(ctx context.Context, v hypervisor.StorageVolume) error {
	all, err := s.users(ctx, v)
	if err != nil {
		return err
	}
	for _, u := range all {
		switch {
		case s.vm(u.UUID) != nil:
			return fault.New(fault.FailedPrecondition, "volume %q of storage pool %q: belongs to VM %s of this hypervisor; use ChangeVmVolumeSize", v.Name, v.Pool, u.UUID)
		case u.State.Alive():
			return fault.New(fault.FailedPrecondition, "volume %q of storage pool %q: domain %q is %s and uses it; stop the domain first", v.Name, v.Pool, u.Name, u.State)
		}
	}
	return s.needNoBase(ctx, v)
}

// needUnused reports a domain that has a volume, also one that is off, or another volume that is based on it.
func (s *Service) needUnused(ctx context.Context, v hypervisor.StorageVolume, action string) error {
	all, err := s.users(ctx, v)
	if err != nil {
		return err
	}
	for _, u := range all {
		return fault.New(fault.FailedPrecondition, "volume %q of storage pool %q: domain %q has it, so it cannot be %s; take it from the domain first",
			v.Name, v.Pool, u.Name, action)
	}
	return s.needNoBase(ctx, v)
}

func (s *Service) needNoBase(ctx context.Context, v hypervisor.StorageVolume) error {
	pools, err := s.Driver.ListPools(ctx)
	if err != nil {
		return err
	}
	for _, p := range pools {
		if p.State != hypervisor.PoolRunning {
			continue
		}
		volumes, err := s.Driver.ListVolumes(ctx, p.Name)
		if err != nil {
			return err
		}
		for _, other := range volumes {
			if other.BackingPath != "" && resolved(other.BackingPath) == resolved(v.Path) {
				return fault.New(fault.FailedPrecondition, "volume %q of storage pool %q: volume %q of storage pool %q is based on it", v.Name, v.Pool, other.Name, p.Name)
			}
		}
	}
	return nil
}
