package libvirt

import (
	"context"
	"errors"
	"io"
	"math"
	"slices"
	"strings"

	golibvirt "github.com/digitalocean/go-libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// ListVolumes implements hypervisor.StorageVolumes.
func (d *Driver) ListVolumes(ctx context.Context, pool string) (all []hypervisor.StorageVolume, err error) {
	err = d.queries.do(ctx, func(c *conn) error {
		p, err := activePool(c, pool)
		if err != nil {
			return err
		}
		volumes, _, err := c.StoragePoolListAllVolumes(p, 1, 0)
		if err != nil {
			return storageFault(err, "storage pool %q: list its volumes", pool)
		}
		for _, v := range volumes {
			one, err := describeVolume(c, v)
			if fault.Is(err, fault.NotFound) {
				continue // it went this moment
			}
			if err != nil {
				return err
			}
			all = append(all, one)
		}
		return nil
	})
	slices.SortFunc(all, func(a, b hypervisor.StorageVolume) int { return strings.Compare(a.Name, b.Name) })
	return all, err
}

// activePool finds a pool that can be used.
func activePool(c *conn, name string) (golibvirt.StoragePool, error) {
	p, err := lookupPool(c, name)
	if err != nil {
		return p, err
	}
	active, err := c.StoragePoolIsActive(p)
	if err == nil && active == 0 {
		return p, inactivePool(name)
	}
	return p, storageFault(err, "storage pool %q", name)
}

func lookupVolume(c *conn, pool, name string) (golibvirt.StorageVol, error) {
	p, err := activePool(c, pool)
	if err != nil {
		return golibvirt.StorageVol{}, err
	}
	v, err := c.StorageVolLookupByName(p, name)
	return v, storageFault(err, "volume %q of storage pool %q", name, pool)
}

// GetVolume implements hypervisor.StorageVolumes.
func (d *Driver) GetVolume(ctx context.Context, pool, name string) (found hypervisor.StorageVolume, err error) {
	err = d.queries.do(ctx, func(c *conn) error {
		v, err := lookupVolume(c, pool, name)
		if err == nil {
			found, err = describeVolume(c, v)
		}
		return err
	})
	return found, err
}

func volumeXML(c *conn, v golibvirt.StorageVol) (*libvirtxml.StorageVolume, error) {
	text, err := c.StorageVolGetXMLDesc(v, 0)
	if err != nil {
		return nil, storageFault(err, "volume %q: read its description", v.Name)
	}
	x := new(libvirtxml.StorageVolume)
	return x, fault.As(fault.Internal, x.Unmarshal(text), "volume %q: understand its description", v.Name)
}

func describeVolume(c *conn, v golibvirt.StorageVol) (hypervisor.StorageVolume, error) {
	x, err := volumeXML(c, v)
	if err != nil {
		return hypervisor.StorageVolume{}, err
	}
	return parseVolume(v.Pool, x), nil
}

func parseVolume(pool string, x *libvirtxml.StorageVolume) hypervisor.StorageVolume {
	found := hypervisor.StorageVolume{Pool: pool, Name: x.Name, Type: x.Type, Capacity: bytesOf(x.Capacity), Allocation: bytesOf(x.Allocation)}
	if x.Target != nil {
		found.Path = x.Target.Path
		if x.Target.Format != nil {
			found.Format = x.Target.Format.Type
		}
	}
	if x.BackingStore != nil {
		found.BackingPath = x.BackingStore.Path
	}
	return found
}

// bytesOf reads a size that libvirt wrote, which is in bytes.
func bytesOf(s *libvirtxml.StorageVolumeSize) uint64 {
	if s == nil {
		return 0
	}
	return s.Value
}

func sizeOf(bytes uint64) *libvirtxml.StorageVolumeSize {
	return &libvirtxml.StorageVolumeSize{Unit: "bytes", Value: bytes}
}

// CreateVolume implements hypervisor.StorageVolumes.
func (d *Driver) CreateVolume(ctx context.Context, spec hypervisor.StorageVolumeSpec) error {
	x := libvirtxml.StorageVolume{
		Name: spec.Name, Capacity: sizeOf(spec.Capacity),
		Target: &libvirtxml.StorageVolumeTarget{Format: &libvirtxml.StorageVolumeTargetFormat{Type: spec.Format.String()}},
	}
	var flags golibvirt.StorageVolCreateFlags
	switch {
	case !spec.Preallocate:
		x.Allocation = sizeOf(0)
	case spec.Format == hypervisor.DiskQCOW2:
		flags = golibvirt.StorageVolCreatePreallocMetadata
		x.Allocation = sizeOf(0)
	default:
		x.Allocation = sizeOf(spec.Capacity)
	}
	if spec.Capacity > math.MaxInt64 {
		return fault.New(fault.InvalidArgument, "volume %q: capacity of %d bytes is too large", spec.Name, spec.Capacity)
	}
	text, err := x.Marshal()
	if err != nil {
		return fault.As(fault.InvalidArgument, err, "volume %q", spec.Name)
	}
	return d.onSlow(ctx, func(c *conn) error {
		p, err := activePool(c, spec.Pool)
		if err != nil {
			return err
		}
		_, err = c.StorageVolCreateXML(p, text, flags)
		return storageFault(err, "volume %q of storage pool %q: create it", spec.Name, spec.Pool)
	})
}

// CloneVolume implements hypervisor.StorageVolumes. libvirt goes on with a copy whose caller has gone, so it is waited for and then removed.
func (d *Driver) CloneVolume(ctx context.Context, pool, name, targetPool, target string) error {
	err := d.onSlow(ctx, func(c *conn) error {
		from, err := lookupVolume(c, pool, name)
		if err != nil {
			return err
		}
		to, err := activePool(c, targetPool)
		if err != nil {
			return err
		}
		old, err := volumeXML(c, from)
		if err != nil {
			return err
		}
		x := libvirtxml.StorageVolume{Name: target, Capacity: old.Capacity}
		if old.Target != nil {
			x.Target = &libvirtxml.StorageVolumeTarget{Format: old.Target.Format}
		}
		text, err := x.Marshal()
		if err != nil {
			return fault.As(fault.InvalidArgument, err, "volume %q", target)
		}
		_, err = c.StorageVolCreateXMLFrom(to, text, from, 0)
		return storageFault(err, "volume %q of storage pool %q: clone %q of %q", target, targetPool, name, pool)
	})
	if err == nil && ctx.Err() != nil {
		return classify(errors.Join(ctx.Err(), d.DeleteVolume(context.WithoutCancel(ctx), targetPool, target)), "volume %q: clone", name)
	}
	return err
}

// ResizeVolume implements hypervisor.StorageVolumes.
func (d *Driver) ResizeVolume(ctx context.Context, pool, name string, capacity uint64, shrink bool) error {
	return d.onVolume(ctx, pool, name, "resize it", func(c *conn, v golibvirt.StorageVol) error {
		x, err := volumeXML(c, v)
		if err != nil {
			return err
		}
		now := bytesOf(x.Capacity)
		var flags golibvirt.StorageVolResizeFlags
		switch {
		case capacity == now:
			return nil
		case capacity < now && !shrink:
			return fault.New(fault.InvalidArgument, "%d bytes are less than its %d; what is behind the new end would be lost: set shrink to allow that", capacity, now)
		case capacity < now:
			flags = golibvirt.StorageVolResizeShrink
		}
		return c.StorageVolResize(v, capacity, flags)
	})
}

// DeleteVolume implements hypervisor.StorageVolumes.
func (d *Driver) DeleteVolume(ctx context.Context, pool, name string) error {
	return d.onVolume(ctx, pool, name, "delete it", func(c *conn, v golibvirt.StorageVol) error { return c.StorageVolDelete(v, 0) })
}

// wipes are libvirt's numbers of the algorithms (virStorageVolWipeAlgorithm).
func wipes() []hypervisor.WipeAlgorithm {
	return []hypervisor.WipeAlgorithm{"zero", "nnsa", "dod", "bsi", "gutmann", "schneier", "pfitzner7", "pfitzner33", "random", "trim"}
}

// WipeVolume implements hypervisor.StorageVolumes.
func (d *Driver) WipeVolume(ctx context.Context, pool, name string, algorithm hypervisor.WipeAlgorithm) error {
	number := slices.Index(wipes(), algorithm)
	if number < 0 {
		return fault.New(fault.InvalidArgument, "volume %q: wipe algorithm %q is unknown", name, algorithm)
	}
	return d.onVolume(ctx, pool, name, "wipe it", func(c *conn, v golibvirt.StorageVol) error {
		return c.StorageVolWipePattern(v, uint32(number), 0)
	})
}

func (d *Driver) onVolume(ctx context.Context, pool, name, what string, f func(*conn, golibvirt.StorageVol) error) error {
	return d.onSlow(ctx, func(c *conn) error {
		v, err := lookupVolume(c, pool, name)
		if err != nil {
			return err
		}
		return storageFault(f(c, v), "volume %q of storage pool %q: %s", name, pool, what)
	})
}

// UploadVolume implements hypervisor.StorageVolumes. Into a raw volume not more goes than its capacity, which is what its machines see.
func (d *Driver) UploadVolume(ctx context.Context, pool, name string, r io.Reader) (uint64, error) {
	src := &source{ctx: ctx, r: r, limit: math.MaxInt64}
	var v golibvirt.StorageVol
	err := d.queries.do(ctx, func(c *conn) (err error) {
		if v, err = lookupVolume(c, pool, name); err != nil {
			return err
		}
		found, err := describeVolume(c, v)
		if found.Format == "raw" {
			src.limit = found.Capacity
		}
		return err
	})
	if err == nil {
		err = d.upload(ctx, v, src)
	}
	return src.sent, err
}

// DownloadVolume implements hypervisor.StorageVolumes.
func (d *Driver) DownloadVolume(ctx context.Context, pool, name string, w io.Writer, offset, length uint64) error {
	var v golibvirt.StorageVol
	err := d.queries.do(ctx, func(c *conn) (err error) {
		v, err = lookupVolume(c, pool, name)
		return err
	})
	if err != nil {
		return err
	}
	to := &written{Writer: w}
	err = d.readStream(ctx, procStorageVolDownload, downloadOf(v, offset, length), to)
	if to.failed != nil {
		err = to.failed
	}
	return storageFault(err, "volume %q of storage pool %q: download", name, pool)
}
