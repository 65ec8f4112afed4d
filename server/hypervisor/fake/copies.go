package fake

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"

	"github.com/hyperplane-project/hyperplane/converters"
	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/qcow2"
	"github.com/hyperplane-project/hyperplane/converters/raw"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// Methods of hypervisor.Appliances.
const (
	MethodCopyDisks      Method = "CopyDisks"
	MethodAbandonCopies  Method = "AbandonCopies"
	MethodDropCheckpoint Method = "DropCheckpoint"
	MethodSetAutostart   Method = "SetAutostart"
	MethodChangeMedium   Method = "ChangeMedium"
)

// CopyDisks implements hypervisor.Appliances. The guest does not write, so that a plain copy is of one moment. A copy of what has changed holds what differs from its base.
func (d *Driver) CopyDisks(ctx context.Context, uuid string, wish hypervisor.DiskCopies) error {
	formats := make([]hypervisor.DiskFormat, len(wish.Disks))
	err := d.doLive(ctx, MethodCopyDisks, uuid, "copied", func(h *Host, m *machine) error {
		if h.appliances[uuid].copying {
			return fault.New(fault.FailedPrecondition, "its disks are being copied already; try again later")
		}
		if wish.Since != "" && !slices.Contains(h.appliances[uuid].checkpoints, wish.Since) {
			return fault.New(fault.NotFound, "has no checkpoint %q", wish.Since)
		}
		for n, c := range wish.Disks {
			i, err := m.disk(c.File)
			if err != nil {
				return err
			}
			if formats[n] = m.spec.Disks[i].Format; wish.Checkpoint != "" && formats[n] != hypervisor.DiskQCOW2 {
				return fault.New(fault.FailedPrecondition, "disk %s is raw; only QCOW2 disks can note what changes", c.File)
			}
			if _, err := os.Lstat(c.To); err == nil {
				return fault.New(fault.AlreadyExists, "the file %s exists", c.To)
			}
		}
		h.setAppliance(uuid, func(a *appliance) { a.copying = true })
		return nil
	})
	if err != nil {
		return err
	}
	var made []string
	for n, c := range wish.Disks {
		if err = copyDisk(ctx, c, formats[n], wish); err != nil {
			break
		}
		made = append(made, c.To)
	}
	d.host.mu.Lock()
	defer d.host.mu.Unlock()
	d.host.setAppliance(uuid, func(a *appliance) {
		if a.copying = false; err == nil && wish.Checkpoint != "" {
			a.checkpoints = append(a.checkpoints, wish.Checkpoint)
		}
	})
	if err != nil {
		for _, file := range made {
			err = errors.Join(err, os.Remove(file))
		}
	}
	return err
}

func copyDisk(ctx context.Context, c hypervisor.DiskCopy, format hypervisor.DiskFormat, wish hypervisor.DiskCopies) (err error) {
	formats := converters.Formats{qcow2.Format(), raw.Format()}
	src, err := formats.Open(ctx, c.File, converters.OpenOptions{Format: format.String()})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	target := converters.Target{Format: c.Format.String()}
	if c.Base != "" && wish.Since != "" {
		base, err := chain{ctx, formats, filepath.Dir(c.To)}.Image(image.Reference{Name: c.Base}, "qcow2")
		if err != nil {
			return err
		}
		defer base.Close() //nolint:errcheck // it was only read
		target.Backing = &converters.Backing{Name: c.Base, Format: "qcow2", Reader: base}
	}
	return converters.WriteFile(ctx, c.To, false, func(ctx context.Context, f *os.File) error {
		target.Out = f
		_, err := formats.Convert(ctx, converters.Source{Reader: src}, target, converters.Options{Progress: func(p converters.Progress) {
			if wish.Progress != nil {
				wish.Progress(uint64(p.Virtual), uint64(p.VirtualSize))
			}
		}})
		return err
	})
}

// chain opens what an incremental copy is based on. The files are those that the caller had made.
type chain struct {
	ctx     context.Context //nolint:containedctx // of the one call
	formats converters.Formats
	dir     string
}

// File implements image.References.
func (c chain) File(ref image.Reference) (image.File, error) {
	return nil, fault.New(fault.InvalidArgument, "copy is based on %q, which is no image", ref.Name)
}

// Image implements image.References.
func (c chain) Image(ref image.Reference, format string) (image.Reader, error) {
	file := filepath.Join(c.dir, ref.Name)
	return c.formats.Open(c.ctx, file, converters.OpenOptions{Format: format, OpenOptions: image.OpenOptions{Refs: chain{c.ctx, c.formats, filepath.Dir(file)}}})
}
