package libvirt

import (
	"context"
	"encoding/xml"
	"errors"
	"io/fs"
	"maps"
	"os"
	"slices"

	golibvirt "github.com/digitalocean/go-libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/procexec"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// redirectFlags make libvirt redirect all disks in one transaction of QEMU, and keep no record of it.
const redirectFlags = golibvirt.DomainSnapshotCreateDiskOnly | golibvirt.DomainSnapshotCreateAtomic | golibvirt.DomainSnapshotCreateNoMetadata

// RedirectDisks implements hypervisor.LiveDisks by an external snapshot. libvirt changes the definition too, so that the machine, should it end, is
// started with the overlays; Define refuses to take them away.
func (d *Driver) RedirectDisks(ctx context.Context, machine string, overlays map[string]string) error {
	if err := ctx.Err(); err != nil {
		return classify(err, "redirect the disks")
	}
	// libvirtd would go on with a call whose connection is closed.
	callCtx, done := linger(ctx)
	defer done()
	return d.withLive(callCtx, machine, "redirected", func(l live) error {
		text, err := l.describeRedirect(overlays)
		if err != nil || len(overlays) == 0 {
			return err
		}
		_, err = l.c.DomainSnapshotCreateXML(l.dom, text, uint32(redirectFlags))
		if err != nil {
			return errors.Join(classify(err, "redirect the disks"), l.removeUnused(overlays))
		}
		return nil
	})
}

func (l live) describeRedirect(overlays map[string]string) (string, error) {
	var disks []libvirtxml.DomainSnapshotDisk
	left := maps.Clone(overlays)
	for _, disk := range l.xml.Devices.Disks {
		if disk.Target == nil {
			continue
		}
		overlay, chosen := overlays[fileOf(disk)]
		if !chosen {
			disks = append(disks, libvirtxml.DomainSnapshotDisk{Name: disk.Target.Dev, Snapshot: "no"})
			continue
		}
		if _, err := os.Lstat(overlay); !errors.Is(err, fs.ErrNotExist) {
			return "", fault.New(fault.FailedPrecondition, "disk %s: the file %s exists; merge it first (%v)", fileOf(disk), overlay, err)
		}
		delete(left, fileOf(disk))
		disks = append(disks, libvirtxml.DomainSnapshotDisk{
			Name: disk.Target.Dev, Snapshot: "external", Driver: &libvirtxml.DomainDiskDriver{Type: "qcow2"},
			Source: &libvirtxml.DomainDiskSource{File: &libvirtxml.DomainDiskSourceFile{File: overlay}},
		})
	}
	for file, overlay := range left {
		if _, err := l.disk(overlay); err == nil {
			return "", fault.New(fault.FailedPrecondition, "disk %s is redirected already; merge it first", file)
		}
		return "", fault.New(fault.NotFound, "has no disk %s", file)
	}
	text, err := xml.Marshal(libvirtxml.DomainSnapshot{Disks: &libvirtxml.DomainSnapshotDisks{Disks: disks}})
	return string(text), fault.As(fault.Internal, err, "describe the redirection")
}

// removeUnused removes overlays that the machine does not use.
func (l live) removeUnused(overlays map[string]string) error {
	now, err := readLive(l.c, uuidText(l.dom.UUID))
	if err != nil {
		return err
	}
	for _, overlay := range overlays {
		if _, missing := now.disk(overlay); missing != nil {
			err = errors.Join(err, removeFile(overlay))
		}
	}
	return err
}

// MergeDisks implements hypervisor.LiveDisks. A machine that ends meanwhile is merged as one that is off.
func (d *Driver) MergeDisks(ctx context.Context, machine string, overlays map[string]string) error {
	for _, file := range slices.Sorted(maps.Keys(overlays)) {
		state, _, err := d.see(ctx, machine, nil)
		if err != nil {
			return err
		}
		if state.Alive() {
			err = d.mergeLive(ctx, machine, file, overlays[file])
			if err != nil {
				state, _, _ = d.see(ctx, machine, nil)
			}
		}
		if !state.Alive() {
			err = d.mergeOff(ctx, machine, file, overlays[file])
		}
		if err != nil {
			return fault.Wrap(err, "merge %s", overlays[file])
		}
	}
	return nil
}

// mergeLive has QEMU write an overlay into its base, and change over when both are equal.
func (d *Driver) mergeLive(ctx context.Context, machine, file, overlay string) error {
	var target string
	err := d.slow.do(ctx, func(c *conn) error {
		l, err := readLive(c, machine)
		if err != nil {
			return err
		}
		disk, err := l.disk(overlay)
		if err != nil {
			return nil //nolint:nilerr // it is not redirected, or merged already
		}
		target = disk.Target.Dev
		err = c.DomainBlockCommit(l.dom, target, golibvirt.OptString{file}, nil, 0, golibvirt.DomainBlockCommitActive)
		if isNumber(err, golibvirt.ErrBlockCopyActive) {
			return nil // an interrupted merge goes on
		}
		return classify(err, "machine %q", l.dom.Name)
	})
	if err != nil {
		return err
	}
	if target != "" {
		if err := d.finishJob(ctx, machine, target, nil); err != nil {
			return err
		}
	}
	return removeFile(overlay)
}

// mergeOff writes an overlay into its base, and has the definition name that again. Each step may be repeated.
func (d *Driver) mergeOff(ctx context.Context, machine, file, overlay string) error {
	base, err := readBacking(overlay)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if base.file != file {
		return fault.New(fault.FailedPrecondition, "it lies over %q, not over %q", base.file, file)
	}
	_, err = procexec.Runner{Log: d.opts.Log}.Run(ctx, procexec.Command{
		Program: "qemu-img", Args: []string{"commit", "-q", "-f", "qcow2", "-d"}, Operands: []string{overlay},
	})
	if err != nil {
		return err
	}
	err = d.slow.do(ctx, func(c *conn) error { return replaceFile(c, machine, overlay, base) })
	if err != nil {
		return err
	}
	return removeFile(overlay)
}

// replaceFile puts another file into the definition of a machine that is off.
func replaceFile(c *conn, machine, from string, to backing) error {
	dom, err := lookup(c, machine)
	if err != nil {
		return err
	}
	def, err := readXML(c, dom, golibvirt.DomainXMLInactive|golibvirt.DomainXMLSecure)
	if err != nil {
		return err
	}
	changed := false
	for i := range def.Devices.Disks {
		if disk := &def.Devices.Disks[i]; fileOf(*disk) == from {
			disk.Source = &libvirtxml.DomainDiskSource{File: &libvirtxml.DomainDiskSourceFile{File: to.file}}
			disk.Driver.Type, disk.BackingStore, changed = to.format, nil, true
		}
	}
	if !changed {
		return nil
	}
	text, err := def.Marshal()
	if err != nil {
		return fault.As(fault.Internal, err, "machine %q: write its definition", dom.Name)
	}
	return defineText(c, hypervisor.Spec{Name: dom.Name}, text)
}

func removeFile(file string) error {
	if err := os.Remove(file); !errors.Is(err, fs.ErrNotExist) {
		return fault.As(fault.Internal, err, "remove %s", file)
	}
	return nil
}
