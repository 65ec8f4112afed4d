package fake

import (
	"context"
	"errors"
	"io"
	"maps"
	"path"
	"slices"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// ListVolumes implements hypervisor.StorageVolumes.
func (d *Driver) ListVolumes(ctx context.Context, pool string) (all []hypervisor.StorageVolume, err error) {
	err = d.onPool(ctx, "ListVolumes", pool, func(p *storagePool) error {
		for _, name := range slices.Sorted(maps.Keys(p.volumes)) {
			all = append(all, p.volumes[name].StorageVolume)
		}
		return p.needActive()
	})
	return all, err
}

// onVolume calls f with a volume, which may be nil if it is new.
func (d *Driver) onVolume(ctx context.Context, method Method, pool, name string, f func(*storagePool, *storageVolume) error) error {
	return d.onPool(ctx, method, pool, func(p *storagePool) error {
		if err := p.needActive(); err != nil {
			return err
		}
		v := p.volumes[name]
		if v == nil {
			return fault.New(fault.NotFound, "volume %q of storage pool %q: no storage vol with matching name", name, pool)
		}
		return f(p, v)
	})
}

// GetVolume implements hypervisor.StorageVolumes.
func (d *Driver) GetVolume(ctx context.Context, pool, name string) (found hypervisor.StorageVolume, err error) {
	err = d.onVolume(ctx, "GetVolume", pool, name, func(_ *storagePool, v *storageVolume) error { found = v.StorageVolume; return nil })
	return found, err
}

// CreateVolume implements hypervisor.StorageVolumes.
func (d *Driver) CreateVolume(ctx context.Context, spec hypervisor.StorageVolumeSpec) error {
	return d.onPool(ctx, "CreateVolume", spec.Pool, func(p *storagePool) error {
		v := &storageVolume{StorageVolume: hypervisor.StorageVolume{Name: spec.Name, Type: "file", Format: spec.Format.String(), Capacity: spec.Capacity}}
		if spec.Preallocate && spec.Format == hypervisor.DiskRaw {
			v.Allocation = spec.Capacity
		}
		return p.add(v)
	})
}

func (p *storagePool) add(v *storageVolume) error {
	if err := p.needActive(); err != nil {
		return err
	}
	if p.volumes[v.Name] != nil {
		return fault.New(fault.AlreadyExists, "volume %q of storage pool %q: storage volume exists already", v.Name, p.Name)
	}
	v.Pool, v.Path = p.Name, path.Join(p.Path, v.Name)
	p.volumes[v.Name] = v
	return nil
}

// CloneVolume implements hypervisor.StorageVolumes.
func (d *Driver) CloneVolume(ctx context.Context, pool, name, targetPool, target string) error {
	var twin storageVolume
	err := d.onVolume(ctx, "CloneVolume", pool, name, func(_ *storagePool, v *storageVolume) error {
		twin = *v
		twin.content, twin.Name = slices.Clone(v.content), target
		return nil
	})
	if err != nil {
		return err
	}
	return d.onPool(ctx, "CloneVolume", targetPool, func(p *storagePool) error { return p.add(&twin) })
}

// ResizeVolume implements hypervisor.StorageVolumes.
func (d *Driver) ResizeVolume(ctx context.Context, pool, name string, capacity uint64, shrink bool) error {
	return d.onVolume(ctx, "ResizeVolume", pool, name, func(_ *storagePool, v *storageVolume) error {
		if capacity < v.Capacity && !shrink {
			return fault.New(fault.InvalidArgument, "volume %q of storage pool %q: %d bytes are less than its %d; set shrink to allow that", name, pool, capacity, v.Capacity)
		}
		v.Capacity = capacity
		if v.Format == "raw" && uint64(len(v.content)) > capacity {
			v.content = v.content[:capacity]
		}
		return nil
	})
}

// DeleteVolume implements hypervisor.StorageVolumes.
func (d *Driver) DeleteVolume(ctx context.Context, pool, name string) error {
	return d.onVolume(ctx, "DeleteVolume", pool, name, func(p *storagePool, _ *storageVolume) error { delete(p.volumes, name); return nil })
}

// WipeVolume implements hypervisor.StorageVolumes.
func (d *Driver) WipeVolume(ctx context.Context, pool, name string, algorithm hypervisor.WipeAlgorithm) error {
	return d.onVolume(ctx, "WipeVolume", pool, name, func(_ *storagePool, v *storageVolume) error {
		if algorithm == "" {
			return fault.New(fault.InvalidArgument, "volume %q: wipe algorithm %q is unknown", name, algorithm)
		}
		v.content = nil
		return nil
	})
}

// UploadVolume implements hypervisor.StorageVolumes.
func (d *Driver) UploadVolume(ctx context.Context, pool, name string, r io.Reader) (uint64, error) {
	found, err := d.GetVolume(ctx, pool, name)
	if err != nil {
		return 0, err
	}
	content, err := io.ReadAll(r)
	if err == nil && found.Format == "raw" && uint64(len(content)) > found.Capacity {
		err = fault.New(fault.OutOfRange, "volume %q: upload: the content has more than the volume's %d bytes", name, found.Capacity)
	}
	if err := errors.Join(err, ctx.Err()); err != nil {
		return 0, fault.Wrap(err, "volume %q: upload", name)
	}
	err = d.onVolume(ctx, "UploadVolume", pool, name, func(_ *storagePool, v *storageVolume) error {
		v.content = append(content, v.content[min(len(content), len(v.content)):]...)
		v.Allocation = max(v.Allocation, uint64(len(content)))
		return nil
	})
	return uint64(len(content)), err
}

// DownloadVolume implements hypervisor.StorageVolumes.
func (d *Driver) DownloadVolume(ctx context.Context, pool, name string, w io.Writer, offset, length uint64) error {
	var all []byte
	err := d.onVolume(ctx, "DownloadVolume", pool, name, func(_ *storagePool, v *storageVolume) error {
		all = slices.Clone(v.content)
		if missing := int64(v.Capacity) - int64(len(all)); v.Format == "raw" && missing > 0 {
			all = append(all, make([]byte, missing)...)
		}
		return nil
	})
	if err != nil {
		return err
	}
	all = all[min(offset, uint64(len(all))):]
	if length != 0 {
		all = all[:min(length, uint64(len(all)))]
	}
	_, err = w.Write(all)
	return err
}
