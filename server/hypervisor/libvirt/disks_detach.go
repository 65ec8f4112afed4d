package libvirt

import (
	"context"
	"encoding/xml"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

const (
	// detachPatience is how long a guest may take to let a disk go. libvirt itself waits 5 s and then answers that all is well.
	detachPatience = 20 * time.Second
	// detachPoll is how often the machine is looked at meanwhile.
	detachPoll = 50 * time.Millisecond
)

// DetachDisk implements hypervisor.LiveDisks. The answer of libvirt's call says nothing: the disk has gone when QEMU's event DEVICE_DELETED has come, which is
// when libvirt takes it out of the live machine's description. A guest that reacts later than detachPatience still loses the disk; its definition keeps it.
func (d *Driver) DetachDisk(ctx context.Context, machine, file string) error {
	running := func(s hypervisor.State) bool { return s == hypervisor.Running } // a paused guest lets nothing go, but would when it is resumed
	if err := d.need(ctx, machine, "separated from a disk", running); err != nil {
		return err
	}
	err := d.slow.do(ctx, func(c *conn) error {
		l, err := readLive(c, machine)
		if err != nil {
			return err
		}
		return fault.Wrap(l.unplug(file), "machine %q", l.dom.Name)
	})
	if err != nil {
		return err
	}
	if err := d.awaitGone(ctx, machine, file); err != nil {
		return err
	}
	return d.slow.do(ctx, func(c *conn) error { return forgetDisk(c, machine, file) })
}

// unplug asks the guest to let a disk go.
func (l live) unplug(file string) error {
	disk, err := l.disk(file)
	if err != nil {
		return err
	}
	if disk.Boot != nil || fileOf(l.disks()[0]) == file {
		return fault.New(fault.FailedPrecondition, "disk %s is the first, which cannot be taken away", file)
	}
	return classify(detach(l.c, l.dom, disk, golibvirt.DomainDeviceModifyLive), "detach %s", file)
}

func detach(c *conn, dom golibvirt.Domain, disk libvirtxml.DomainDisk, how golibvirt.DomainDeviceModifyFlags) error {
	text, err := xml.Marshal(libvirtxml.DomainDisk{Device: disk.Device, Source: disk.Source, Target: disk.Target})
	if err != nil {
		return err
	}
	return c.DomainDetachDeviceFlags(dom, string(text), uint32(how))
}

// awaitGone waits until a live machine does not have a disk any more.
func (d *Driver) awaitGone(ctx context.Context, machine, file string) error {
	patience, cancel := context.WithTimeout(ctx, detachPatience)
	defer cancel()
	for {
		there, err := d.hasDisk(ctx, machine, file)
		if err != nil || !there {
			return err
		}
		if err := pause(patience, detachPoll); err != nil {
			if ctx.Err() != nil {
				return classify(ctx.Err(), "machine %s: waiting for the guest to let disk %s go", machine, file)
			}
			return fault.New(fault.FailedPrecondition, "machine %s: the guest does not let disk %s go; unmount it there, or stop the machine", machine, file)
		}
	}
}

func (d *Driver) hasDisk(ctx context.Context, machine, file string) (there bool, err error) {
	err = d.queries.do(ctx, func(c *conn) error {
		l, err := readLive(c, machine)
		if err != nil {
			return err
		}
		_, missing := l.disk(file)
		there = missing == nil
		return nil
	})
	return there, err
}

// forgetDisk takes a disk out of a machine's definition.
func forgetDisk(c *conn, machine, file string) error {
	dom, err := lookup(c, machine)
	if err != nil {
		return err
	}
	def, err := definition(c, dom)
	if err != nil {
		return err
	}
	for _, disk := range fileDisks(def) {
		if fileOf(disk) == file {
			return classify(detach(c, dom, disk, golibvirt.DomainDeviceModifyConfig), "machine %q: take disk %s out of its definition", dom.Name, file)
		}
	}
	return nil
}

// pause waits, or returns the context's error if that ends before.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
