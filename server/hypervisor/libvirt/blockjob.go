package libvirt

import (
	"context"
	"encoding/xml"
	"errors"
	"io/fs"
	"os"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

const (
	// jobPoll is how often a block job is looked at. libvirt's event of its progress is one that go-libvirt does not decode.
	jobPoll = 50 * time.Millisecond
	// jobEnd is how long the ending of a job may take when its caller has gone.
	jobEnd = 30 * time.Second
)

// MoveDisk implements hypervisor.LiveDisks: QEMU mirrors the disk until both are equal, and then changes over.
func (d *Driver) MoveDisk(ctx context.Context, machine, file, to string, progress func(done, total uint64)) error {
	if _, err := os.Lstat(to); !errors.Is(err, fs.ErrNotExist) {
		return fault.New(fault.AlreadyExists, "machine %s: the file %s, to which a disk is to move, exists (%v)", machine, to, err)
	}
	var target string
	err := d.withLive(ctx, machine, "moved to another file", func(l live) (err error) {
		target, err = l.beginCopy(file, to)
		return err
	})
	if err == nil {
		err = d.finishJob(ctx, machine, target, progress)
	}
	if err == nil || target == "" {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), jobEnd)
	defer cancel()
	if moved, abortErr := d.abortCopy(ctx, machine, target, to); moved {
		return nil // the change over had happened
	} else if abortErr != nil {
		return errors.Join(err, abortErr)
	}
	if rmErr := os.Remove(to); !errors.Is(rmErr, fs.ErrNotExist) {
		err = errors.Join(err, rmErr)
	}
	return err
}

func (l live) beginCopy(file, to string) (target string, err error) {
	disk, err := l.disk(file)
	if err != nil {
		return "", err
	}
	if err := l.endLeftCopy(disk); err != nil {
		return "", err
	}
	text, err := xml.Marshal(libvirtxml.DomainDisk{
		Driver: &libvirtxml.DomainDiskDriver{Type: formatOf(disk).String()},
		Source: &libvirtxml.DomainDiskSource{File: &libvirtxml.DomainDiskSourceFile{File: to}},
	})
	if err != nil {
		return "", fault.As(fault.Internal, err, "describe %s", to)
	}
	// Without the flag libvirt refuses machines whose definition is kept.
	err = l.c.DomainBlockCopy(l.dom, disk.Target.Dev, string(text), nil, golibvirt.DomainBlockCopyTransientJob)
	return disk.Target.Dev, classify(err, "move %s to %s", file, to)
}

// endLeftCopy ends a copy that was begun by a daemon that was killed.
func (l live) endLeftCopy(disk libvirtxml.DomainDisk) error {
	if disk.Mirror == nil || disk.Mirror.Job != "copy" {
		return nil
	}
	return classify(l.c.DomainBlockJobAbort(l.dom, disk.Target.Dev, 0), "end an earlier copy of %s", fileOf(disk))
}

// AbandonMove implements hypervisor.LiveDisks.
func (d *Driver) AbandonMove(ctx context.Context, machine, file string) error {
	state, _, err := d.see(ctx, machine, nil)
	if err != nil || !state.Alive() {
		return err
	}
	return d.slow.do(ctx, func(c *conn) error {
		l, err := readLive(c, machine)
		if err != nil {
			return err
		}
		disk, err := l.disk(file)
		if err != nil {
			return nil //nolint:nilerr // without the disk there is no move of it
		}
		return fault.Wrap(l.endLeftCopy(disk), "machine %q", l.dom.Name)
	})
}

// finishJob waits until a job has caught up with the guest, and changes over to what it has made.
func (d *Driver) finishJob(ctx context.Context, machine, target string, progress func(done, total uint64)) error {
	for {
		ready, err := d.stepJob(ctx, machine, target, progress)
		if err != nil || ready {
			return err
		}
		if err := pause(ctx, jobPoll); err != nil {
			return classify(err, "machine %s: disk %s", machine, target)
		}
	}
}

// stepJob looks at a job once, and changes over if it is ready.
func (d *Driver) stepJob(ctx context.Context, machine, target string, progress func(done, total uint64)) (finished bool, err error) {
	err = d.slow.do(ctx, func(c *conn) error {
		dom, err := lookup(c, machine)
		if err != nil {
			return err
		}
		found, _, _, done, total, err := c.DomainGetBlockJobInfo(dom, target, 0)
		switch {
		case err != nil:
			return classify(err, "machine %q: disk %s: ask for the job", dom.Name, target)
		case found == 0:
			return fault.New(fault.Internal, "machine %q: disk %s: the job ended before it was done; the log of QEMU says why", dom.Name, target)
		}
		if progress != nil {
			progress(done, total)
		}
		if done < total || total == 0 {
			return nil
		}
		err = c.DomainBlockJobAbort(dom, target, golibvirt.DomainBlockJobAbortPivot)
		if isNumber(err, golibvirt.ErrBlockCopyActive) {
			return nil // equal, but QEMU has not said so yet
		}
		finished = err == nil
		return classify(err, "machine %q: disk %s: change over", dom.Name, target)
	})
	return finished, err
}

// abortCopy ends a copy. It reports whether the machine uses the new file already.
func (d *Driver) abortCopy(ctx context.Context, machine, target, to string) (moved bool, err error) {
	err = d.slow.do(ctx, func(c *conn) error {
		dom, err := lookup(c, machine)
		if err != nil {
			return err
		}
		abortErr := c.DomainBlockJobAbort(dom, target, 0)
		state, err := askState(c, dom)
		if err != nil || !state.alive() {
			return err // its definition names the old file
		}
		l, err := readLive(c, machine)
		if err != nil {
			return err
		}
		for _, disk := range l.disks() {
			switch {
			case disk.Target.Dev != target:
			case fileOf(disk) == to:
				moved = true
			case disk.Mirror != nil:
				return classify(abortErr, "machine %q: end the copy to %s", dom.Name, to)
			}
		}
		return nil
	})
	return moved, err
}
