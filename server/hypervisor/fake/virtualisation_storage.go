package fake

import (
	"context"
	"encoding/binary"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// poolSize is what every pool of the fake holds.
const poolSize = 1 << 40

// storagePool keeps its volumes in memory.
type storagePool struct {
	hypervisor.StoragePool
	volumes map[string]*storageVolume
}

type storageVolume struct {
	hypervisor.StorageVolume
	content []byte // its beginning; the rest is zeros
}

func (p *storagePool) describe() hypervisor.StoragePool {
	found := p.StoragePool
	if p.State == hypervisor.PoolRunning {
		found.Capacity = poolSize
		for _, v := range p.volumes {
			found.Allocation += v.Allocation
		}
		found.Available = poolSize - found.Allocation
	}
	return found
}

// ListPools implements hypervisor.StoragePools.
func (d *Driver) ListPools(ctx context.Context) (all []hypervisor.StoragePool, err error) {
	err = d.do(ctx, "ListPools", func(h *Host) error {
		for _, name := range slices.Sorted(maps.Keys(h.virt.pools)) {
			all = append(all, h.virt.pools[name].describe())
		}
		return nil
	})
	return all, err
}

// GetPool implements hypervisor.StoragePools.
func (d *Driver) GetPool(ctx context.Context, name string) (found hypervisor.StoragePool, err error) {
	err = d.onPool(ctx, "GetPool", name, func(p *storagePool) error { found = p.describe(); return nil })
	return found, err
}

func (d *Driver) onPool(ctx context.Context, method Method, name string, f func(*storagePool) error) error {
	return d.do(ctx, method, func(h *Host) error {
		p := h.virt.pools[name]
		if p == nil {
			return fault.New(fault.NotFound, "storage pool %q: no storage pool with matching name", name)
		}
		return f(p)
	})
}

// CreatePool implements hypervisor.StoragePools. No directory is made.
func (d *Driver) CreatePool(ctx context.Context, spec hypervisor.StoragePoolSpec) error {
	return d.do(ctx, "CreatePool", func(h *Host) error {
		if h.virt.pools[spec.Name] != nil {
			return fault.New(fault.AlreadyExists, "storage pool %q exists", spec.Name)
		}
		for _, other := range h.virt.pools {
			if other.Path == spec.Path {
				return fault.New(fault.AlreadyExists, "storage pool %q: directory %s belongs to storage pool %q", spec.Name, spec.Path, other.Name)
			}
		}
		if h.virt.pools == nil {
			h.virt.pools = make(map[string]*storagePool)
		}
		h.virt.pools[spec.Name] = &storagePool{
			StoragePool: hypervisor.StoragePool{
				Name: spec.Name, UUID: uuid.NewString(), State: hypervisor.PoolRunning, Type: "dir", Path: spec.Path, Autostart: spec.Autostart, Persistent: true,
			},
			volumes: make(map[string]*storageVolume),
		}
		return nil
	})
}

// StartPool implements hypervisor.StoragePools.
func (d *Driver) StartPool(ctx context.Context, name string) error {
	return d.onPool(ctx, "StartPool", name, func(p *storagePool) error { p.State = hypervisor.PoolRunning; return nil })
}

// StopPool implements hypervisor.StoragePools.
func (d *Driver) StopPool(ctx context.Context, name string) error {
	return d.onPool(ctx, "StopPool", name, func(p *storagePool) error { p.State = hypervisor.PoolInactive; return nil })
}

// RefreshPool implements hypervisor.StoragePools: it finds out the formats of what was uploaded.
func (d *Driver) RefreshPool(ctx context.Context, name string) error {
	return d.onPool(ctx, "RefreshPool", name, func(p *storagePool) error {
		if err := p.needActive(); err != nil {
			return err
		}
		for _, v := range p.volumes {
			// The head of QCOW2: magic, version, backing file, cluster bits, then the size at byte 24 (docs/interop/qcow2.txt of QEMU).
			if strings.HasPrefix(string(v.content), "QFI\xfb") && len(v.content) >= 32 {
				v.Format, v.Capacity = "qcow2", binary.BigEndian.Uint64(v.content[24:])
			}
		}
		return nil
	})
}

func (p *storagePool) needActive() error {
	if p.State != hypervisor.PoolRunning {
		return fault.New(fault.FailedPrecondition, "storage pool %q is inactive; start it first", p.Name)
	}
	return nil
}

// DeletePool implements hypervisor.StoragePools.
func (d *Driver) DeletePool(ctx context.Context, name string) error {
	return d.do(ctx, "DeletePool", func(h *Host) error {
		if h.virt.pools[name] == nil {
			return fault.New(fault.NotFound, "storage pool %q: no storage pool with matching name", name)
		}
		delete(h.virt.pools, name)
		return nil
	})
}

// hasVolume says whether a file is a volume of an active pool.
func (h *Host) hasVolume(file string) bool {
	for _, p := range h.virt.pools {
		if v := p.volumes[path.Base(file)]; v != nil && v.Path == file && p.State == hypervisor.PoolRunning {
			return true
		}
	}
	return false
}
