package libvirt

import (
	"context"
	"errors"
	"slices"
	"strings"

	golibvirt "github.com/digitalocean/go-libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/undo"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// ListPools implements hypervisor.StoragePools.
func (d *Driver) ListPools(ctx context.Context) (all []hypervisor.StoragePool, err error) {
	err = d.queries.do(ctx, func(c *conn) error {
		pools, _, err := c.ConnectListAllStoragePools(1, 0)
		if err != nil {
			return classify(err, "list the storage pools")
		}
		all, err = describeAll(c, pools, describePool)
		return err
	})
	slices.SortFunc(all, func(a, b hypervisor.StoragePool) int { return strings.Compare(a.Name, b.Name) })
	return all, err
}

// GetPool implements hypervisor.StoragePools.
func (d *Driver) GetPool(ctx context.Context, name string) (found hypervisor.StoragePool, err error) {
	err = d.queries.do(ctx, func(c *conn) error {
		p, err := lookupPool(c, name)
		if err != nil {
			return err
		}
		found, err = describePool(c, p)
		return err
	})
	return found, err
}

func lookupPool(c *conn, name string) (golibvirt.StoragePool, error) {
	p, err := c.StoragePoolLookupByName(name)
	return p, storageFault(err, "storage pool %q", name)
}

// storageFault is classify for calls about pools and volumes, with the numbers that only these have.
func storageFault(err error, format string, args ...any) error {
	for number, code := range map[golibvirt.ErrorNumber]fault.Code{
		golibvirt.ErrNoStoragePool: fault.NotFound, golibvirt.ErrNoStorageVol: fault.NotFound, golibvirt.ErrStorageVolExist: fault.AlreadyExists,
	} {
		if isNumber(err, number) {
			return fault.As(code, err, format, args...)
		}
	}
	return classify(err, format, args...)
}

func describePool(c *conn, p golibvirt.StoragePool) (hypervisor.StoragePool, error) {
	text, err := c.StoragePoolGetXMLDesc(p, 0)
	if err != nil {
		return hypervisor.StoragePool{}, storageFault(err, "storage pool %q: read its definition", p.Name)
	}
	x := new(libvirtxml.StoragePool)
	if err := x.Unmarshal(text); err != nil {
		return hypervisor.StoragePool{}, fault.As(fault.Internal, err, "storage pool %q: understand its definition", p.Name)
	}
	found := hypervisor.StoragePool{Name: p.Name, UUID: uuidText(p.UUID), Type: x.Type}
	if x.Target != nil {
		found.Path = x.Target.Path
	}
	state, capacity, allocation, available, err := c.StoragePoolGetInfo(p)
	autostart, err2 := c.StoragePoolGetAutostart(p)
	persistent, err3 := c.StoragePoolIsPersistent(p)
	if err := errors.Join(err, err2, err3); err != nil {
		return found, storageFault(err, "storage pool %q", p.Name)
	}
	found.State = hypervisor.PoolState(state) // virStoragePoolState counts as PoolState does
	found.Capacity, found.Allocation, found.Available = capacity, allocation, available
	found.Autostart, found.Persistent = autostart != 0, persistent != 0
	return found, nil
}

// CreatePool implements hypervisor.StoragePools.
func (d *Driver) CreatePool(ctx context.Context, spec hypervisor.StoragePoolSpec) error {
	x := libvirtxml.StoragePool{Type: "dir", Name: spec.Name, Target: &libvirtxml.StoragePoolTarget{Path: spec.Path}}
	text, err := x.Marshal()
	if err != nil {
		return fault.As(fault.InvalidArgument, err, "storage pool %q", spec.Name)
	}
	var back undo.Stack
	err = d.onSlow(ctx, func(c *conn) error { return createPool(c, spec, text, &back) })
	if err != nil {
		return errors.Join(err, back.Run(ctx))
	}
	return nil
}

func createPool(c *conn, spec hypervisor.StoragePoolSpec, text string, back *undo.Stack) error {
	if _, err := c.StoragePoolLookupByName(spec.Name); err == nil {
		return fault.New(fault.AlreadyExists, "storage pool %q exists", spec.Name)
	}
	// Otherwise libvirt's error has no number of its own.
	if other, err := c.StoragePoolLookupByTargetPath(spec.Path); err == nil {
		return fault.New(fault.AlreadyExists, "storage pool %q: directory %s belongs to storage pool %q", spec.Name, spec.Path, other.Name)
	}
	p, err := c.StoragePoolDefineXML(text, 0)
	if err != nil {
		return storageFault(err, "storage pool %q: define it", spec.Name)
	}
	back.Add(func(context.Context) error {
		return storageFault(c.StoragePoolUndefine(p), "storage pool %q: forget it", spec.Name)
	})
	if err := c.StoragePoolBuild(p, 0); err != nil {
		return storageFault(err, "storage pool %q: make directory %s", spec.Name, spec.Path)
	}
	if err := c.StoragePoolCreate(p, 0); err != nil {
		return storageFault(err, "storage pool %q: start it", spec.Name)
	}
	back.Add(func(context.Context) error {
		return storageFault(c.StoragePoolDestroy(p), "storage pool %q: stop it", spec.Name)
	})
	autostart := int32(0)
	if spec.Autostart {
		autostart = 1
	}
	return storageFault(c.StoragePoolSetAutostart(p, autostart), "storage pool %q: start it with the host", spec.Name)
}

// StartPool implements hypervisor.StoragePools.
func (d *Driver) StartPool(ctx context.Context, name string) error {
	return d.onPool(ctx, name, "start it", func(c *conn, p golibvirt.StoragePool, active bool) error {
		if active {
			return nil
		}
		return c.StoragePoolCreate(p, 0)
	})
}

// StopPool implements hypervisor.StoragePools.
func (d *Driver) StopPool(ctx context.Context, name string) error {
	return d.onPool(ctx, name, "stop it", stopPool)
}

func stopPool(c *conn, p golibvirt.StoragePool, active bool) error {
	if !active {
		return nil
	}
	return c.StoragePoolDestroy(p)
}

// RefreshPool implements hypervisor.StoragePools.
func (d *Driver) RefreshPool(ctx context.Context, name string) error {
	return d.onPool(ctx, name, "refresh it", func(c *conn, p golibvirt.StoragePool, active bool) error {
		if !active {
			return inactivePool(name)
		}
		return c.StoragePoolRefresh(p, 0)
	})
}

func inactivePool(name string) error {
	return fault.New(fault.FailedPrecondition, "storage pool %q is inactive; start it first", name)
}

// DeletePool implements hypervisor.StoragePools.
func (d *Driver) DeletePool(ctx context.Context, name string) error {
	return d.onPool(ctx, name, "delete it", func(c *conn, p golibvirt.StoragePool, active bool) error {
		persistent, err := c.StoragePoolIsPersistent(p)
		if err != nil {
			return err
		}
		if err := stopPool(c, p, active); err != nil || persistent == 0 {
			return err
		}
		return c.StoragePoolUndefine(p)
	})
}

// onPool calls f with a pool and whether it is active.
func (d *Driver) onPool(ctx context.Context, name, what string, f func(*conn, golibvirt.StoragePool, bool) error) error {
	return d.onSlow(ctx, func(c *conn) error {
		p, err := lookupPool(c, name)
		if err != nil {
			return err
		}
		active, err := c.StoragePoolIsActive(p)
		if err == nil {
			err = f(c, p, active != 0)
		}
		return storageFault(err, "storage pool %q: %s", name, what)
	})
}
