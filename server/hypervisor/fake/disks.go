package fake

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"slices"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// AttachDisk implements hypervisor.LiveDisks.
func (d *Driver) AttachDisk(ctx context.Context, uuid string, disk hypervisor.Disk) error {
	return d.doLive(ctx, MethodAttachDisk, uuid, "given a disk", func(h *Host, m *machine) error {
		if err := m.spec.CheckAttach(disk); err != nil {
			return err
		}
		if !h.opts.FileExists(disk.File) {
			return fault.New(fault.FailedPrecondition, "disk %s does not exist", disk.File)
		}
		m.spec.Disks = append(slices.Clone(m.spec.Disks), disk)
		return nil
	})
}

// DetachDisk implements hypervisor.LiveDisks.
func (d *Driver) DetachDisk(ctx context.Context, uuid, file string) error {
	return d.doLive(ctx, MethodDetachDisk, uuid, "separated from a disk", func(_ *Host, m *machine) error {
		i, err := m.disk(file)
		switch {
		case err != nil:
			return err
		case i == 0:
			return fault.New(fault.FailedPrecondition, "disk %s is the first, which cannot be taken away", file)
		case m.state == hypervisor.Paused || m.keepsDisks:
			return fault.New(fault.FailedPrecondition, "the guest does not let disk %s go", file)
		}
		m.spec.Disks = slices.Delete(slices.Clone(m.spec.Disks), i, i+1)
		return nil
	})
}

// ResizeDisk implements hypervisor.LiveDisks.
func (d *Driver) ResizeDisk(ctx context.Context, uuid, file string, size uint64) error {
	if size == 0 || size%hypervisor.SectorSize != 0 {
		return fault.New(fault.InvalidArgument, "disk %s: %d bytes are no multiple of %d", file, size, hypervisor.SectorSize)
	}
	return d.doLive(ctx, MethodResizeDisk, uuid, "given larger disks", func(_ *Host, m *machine) error {
		i, err := m.disk(file)
		if err == nil {
			err = m.spec.Disks[i].CheckGrow()
		}
		if err != nil {
			return err
		}
		return growFile(file, m.spec.Disks[i].Format, size)
	})
}

// MoveDisk implements hypervisor.LiveDisks. The guest does not write, so a plain copy is enough.
func (d *Driver) MoveDisk(ctx context.Context, uuid, file, to string, progress func(done, total uint64)) error {
	err := d.doLive(ctx, MethodMoveDisk, uuid, "moved to another file", func(_ *Host, m *machine) error {
		_, err := m.disk(file)
		return err
	})
	if err != nil {
		return err
	}
	if err := copyFile(ctx, file, to, progress); err != nil {
		return fault.Wrap(err, "move %s", file)
	}
	err = d.host.withMachine(uuid, func(m *machine) error {
		i, err := m.disk(file)
		if err == nil {
			m.spec.Disks = slices.Clone(m.spec.Disks)
			m.spec.Disks[i].File = to
		}
		return err
	})
	if err != nil {
		return errors.Join(err, os.Remove(to))
	}
	return nil
}

// AbandonMove implements hypervisor.LiveDisks. A move of a fake ends with its caller.
func (d *Driver) AbandonMove(ctx context.Context, uuid, _ string) error {
	return d.doMachine(ctx, MethodAbandonMove, uuid, func(*Host, *machine) error { return nil })
}

// RedirectDisks implements hypervisor.LiveDisks. The overlays hold nothing: the guest does not write.
func (d *Driver) RedirectDisks(ctx context.Context, uuid string, overlays map[string]string) error {
	return d.doLive(ctx, MethodRedirectDisks, uuid, "redirected", func(_ *Host, m *machine) error {
		for file, overlay := range overlays {
			if _, err := m.disk(file); err != nil {
				return err
			}
			if _, err := os.Lstat(overlay); m.redirects[file] != "" || !errors.Is(err, fs.ErrNotExist) {
				return fault.New(fault.FailedPrecondition, "disk %s is redirected already, or the file %s exists; merge it first", file, overlay)
			}
		}
		for file, overlay := range overlays {
			if err := os.WriteFile(overlay, []byte("changes of "+file+"\n"), 0o600); err != nil {
				return fault.Wrap(err, "overlay")
			}
			if m.redirects == nil {
				m.redirects = make(map[string]string)
			}
			m.redirects[file] = overlay
		}
		return nil
	})
}

// MergeDisks implements hypervisor.LiveDisks.
func (d *Driver) MergeDisks(ctx context.Context, uuid string, overlays map[string]string) error {
	return d.doMachine(ctx, MethodMergeDisks, uuid, func(_ *Host, m *machine) error {
		for file, overlay := range overlays {
			delete(m.redirects, file)
			if err := os.Remove(overlay); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fault.Wrap(err, "overlay")
			}
		}
		return nil
	})
}

// SetKeepsDisks says whether a machine's guest lets disks go.
func (h *Host) SetKeepsDisks(uuid string, keeps bool) error {
	return h.withMachine(uuid, func(m *machine) error { m.keepsDisks = keeps; return nil })
}

// doLive is doMachine for a machine that must be Running or Paused.
func (d *Driver) doLive(ctx context.Context, method Method, uuid, what string, f func(*Host, *machine) error) error {
	return d.doMachine(ctx, method, uuid, func(h *Host, m *machine) error {
		if err := m.need(what, hypervisor.Running, hypervisor.Paused); err != nil {
			return err
		}
		return fault.Wrap(f(h, m), "machine %q", m.spec.Name)
	})
}

// disk returns the place of a disk.
func (m *machine) disk(file string) (int, error) {
	i := slices.IndexFunc(m.spec.Disks, func(d hypervisor.Disk) bool { return d.File == file })
	if i < 0 {
		return 0, fault.New(fault.NotFound, "has no disk %s", file)
	}
	return i, nil
}
