package libvirt

import (
	"context"
	"encoding/xml"
	"errors"
	"io/fs"
	"os"

	golibvirt "github.com/digitalocean/go-libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/procexec"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// CopyDisks implements hypervisor.Appliances by a backup in push mode: QEMU copies a block before the guest overwrites it.
func (d *Driver) CopyDisks(ctx context.Context, machine string, wish hypervisor.DiskCopies) error {
	for _, copied := range wish.Disks {
		if _, err := os.Lstat(copied.To); !errors.Is(err, fs.ErrNotExist) {
			return fault.New(fault.AlreadyExists, "machine %s: the file %s, to which a disk is to be copied, exists (%v)", machine, copied.To, err)
		}
	}
	// libvirtd would go on with a call whose connection is closed.
	callCtx, done := linger(ctx)
	defer done()
	err := d.withLive(callCtx, machine, "copied", func(l live) error { return l.beginCopies(wish) })
	if err == nil {
		err = d.followCopies(ctx, machine, wish.Progress)
	}
	if err == nil && wish.Since != "" {
		err = d.nameBases(ctx, wish.Disks)
	}
	if err == nil {
		return nil
	}
	cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), jobEnd)
	defer cancel()
	if fault.Is(err, fault.AlreadyExists) || errors.Is(err, errOthersCopies) {
		return err
	}
	err = errors.Join(err, d.AbandonCopies(cleanup, machine))
	if wish.Checkpoint != "" {
		err = errors.Join(err, d.DropCheckpoint(cleanup, machine, wish.Checkpoint))
	}
	for _, copied := range wish.Disks {
		err = errors.Join(err, removeFile(copied.To))
	}
	return err
}

// errOthersCopies marks copies under way that are not this call's to end.
var errOthersCopies = errors.New("disks are being copied already")

func (l live) beginCopies(wish hypervisor.DiskCopies) error {
	kind, _, err := l.c.DomainGetJobStats(l.dom, 0)
	if err == nil && golibvirt.DomainJobType(kind) != golibvirt.DomainJobNone {
		return fault.As(fault.FailedPrecondition, errOthersCopies, "try again later")
	}
	backup, point, err := l.describeCopies(wish)
	if err != nil {
		return err
	}
	var checkpoint golibvirt.OptString
	if wish.Checkpoint != "" {
		checkpoint = golibvirt.OptString{point}
	}
	err = l.c.DomainBackupBegin(l.dom, backup, checkpoint, 0)
	if isNumber(err, golibvirt.ErrNoDomainCheckpoint) || isNumber(err, golibvirt.ErrCheckpointInconsistent) {
		return fault.As(fault.NotFound, err, "copy what has changed") // the disks may have been replaced since then
	}
	return classify(err, "copy the disks")
}

// describeCopies returns what libvirt calls a domainbackup and a domaincheckpoint.
func (l live) describeCopies(wish hypervisor.DiskCopies) (backup, checkpoint string, err error) {
	copies := make(map[string]hypervisor.DiskCopy)
	for _, c := range wish.Disks {
		if _, err := l.disk(c.File); err != nil {
			return "", "", err
		}
		copies[c.File] = c
	}
	b := libvirtxml.DomainBackup{Incremental: wish.Since, Push: &libvirtxml.DomainBackupPush{Disks: new(libvirtxml.DomainBackupPushDisks)}}
	p := libvirtxml.DomainCheckpoint{Name: wish.Checkpoint, Disks: new(libvirtxml.DomainCheckpointDisks)}
	for i := range l.xml.Devices.Disks {
		disk := &l.xml.Devices.Disks[i]
		target := deviceName(disk)
		c, chosen := copies[fileOf(*disk)]
		if !chosen {
			b.Push.Disks.Disks = append(b.Push.Disks.Disks, libvirtxml.DomainBackupPushDisk{Name: target, Backup: "no"})
			p.Disks.Disks = append(p.Disks.Disks, libvirtxml.DomainCheckpointDisk{Name: target, Checkpoint: "no"})
			continue
		}
		if wish.Checkpoint != "" && formatOf(*disk) != hypervisor.DiskQCOW2 {
			return "", "", fault.New(fault.FailedPrecondition, "disk %s is raw; only QCOW2 disks can note what changes", target)
		}
		b.Push.Disks.Disks = append(b.Push.Disks.Disks, libvirtxml.DomainBackupPushDisk{
			Name: target, Backup: "yes", Driver: &libvirtxml.DomainBackupDiskDriver{Type: c.Format.String()},
			Target: &libvirtxml.DomainDiskSource{File: &libvirtxml.DomainDiskSourceFile{File: c.To}},
		})
		p.Disks.Disks = append(p.Disks.Disks, libvirtxml.DomainCheckpointDisk{Name: target, Checkpoint: "bitmap"})
	}
	text, err := xml.Marshal(&b)
	point, pointErr := p.Marshal()
	return string(text), point, fault.As(fault.Internal, errors.Join(err, pointErr), "describe the copies")
}

// followCopies waits for the end of the copies that were begun.
func (d *Driver) followCopies(ctx context.Context, machine string, progress func(done, total uint64)) error {
	for {
		var ended bool
		err := d.queries.do(ctx, func(c *conn) (err error) {
			ended, err = stepCopies(c, machine, progress)
			return err
		})
		if err != nil || ended {
			return err
		}
		if err := pause(ctx, jobPoll); err != nil {
			return classify(err, "machine %s: copy its disks", machine)
		}
	}
}

func stepCopies(c *conn, machine string, progress func(done, total uint64)) (ended bool, err error) {
	dom, err := lookup(c, machine)
	if err != nil {
		return false, err
	}
	kind, figures, err := c.DomainGetJobStats(dom, 0)
	if err != nil {
		return false, classify(err, "machine %q: copy its disks", dom.Name)
	}
	if golibvirt.DomainJobType(kind) != golibvirt.DomainJobNone {
		if progress != nil {
			progress(jobNumber(figures, "disk_processed"), jobNumber(figures, "disk_total"))
		}
		return false, nil
	}
	kind, figures, err = c.DomainGetJobStats(dom, golibvirt.DomainJobStatsCompleted)
	switch {
	case err != nil:
		return false, classify(err, "machine %q: ask how the copying of its disks ended", dom.Name)
	case golibvirt.DomainJobType(kind) == golibvirt.DomainJobCompleted:
		return true, nil
	}
	why := "the log of QEMU says why"
	for _, p := range figures {
		if text, ok := p.Value.I.(string); ok && p.Field == golibvirt.DomainJobErrmsg {
			why = text
		}
	}
	return false, fault.New(fault.Aborted, "machine %q: the copying of its disks failed: %s", dom.Name, why)
}

// AbandonCopies implements hypervisor.Appliances.
func (d *Driver) AbandonCopies(ctx context.Context, machine string) error {
	state, _, err := d.see(ctx, machine, nil)
	if fault.Is(err, fault.NotFound) || err == nil && !state.Alive() {
		return nil
	}
	for asked := false; err == nil; err = pause(ctx, jobPoll) {
		var ended bool
		err := d.slow.do(ctx, func(c *conn) error {
			dom, err := lookup(c, machine)
			if err != nil {
				return err
			}
			kind, figures, err := c.DomainGetJobStats(dom, 0)
			ended = err != nil || golibvirt.DomainJobType(kind) == golibvirt.DomainJobNone || !isBackup(figures)
			if ended || asked {
				return nil
			}
			asked = true
			return classify(c.DomainAbortJob(dom), "machine %q: end the copying of its disks", dom.Name)
		})
		if err != nil || ended {
			return err
		}
	}
	return classify(err, "machine %s: end the copying of its disks", machine)
}

func isBackup(figures []golibvirt.TypedParam) bool {
	for _, p := range figures {
		if n, ok := p.Value.I.(int32); ok && p.Field == golibvirt.DomainJobOperationStr {
			return golibvirt.DomainJobOperation(n) == golibvirt.DomainJobOperationStrBackup
		}
	}
	return false
}

// nameBases writes into incremental copies what they are based on; libvirt leaves that to others.
func (d *Driver) nameBases(ctx context.Context, copies []hypervisor.DiskCopy) error {
	for _, c := range copies {
		if c.Base == "" {
			continue
		}
		_, err := procexec.Runner{Log: d.opts.Log}.Run(ctx, procexec.Command{
			Program: "qemu-img", Args: []string{"rebase", "-u", "-f", "qcow2", "-F", "qcow2", "-b", c.Base}, Operands: []string{c.To},
		})
		if err != nil {
			return fault.Wrap(err, "name the base of %s", c.To)
		}
	}
	return nil
}
