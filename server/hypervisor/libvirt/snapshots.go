package libvirt

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// ListSnapshots implements hypervisor.DomainSnapshots.
func (d *Driver) ListSnapshots(ctx context.Context, machine string) (all []hypervisor.DomainSnapshot, err error) {
	err = d.queries.do(ctx, func(c *conn) error {
		dom, err := lookup(c, machine)
		if err != nil {
			return err
		}
		snapshots, _, err := c.DomainListAllSnapshots(dom, 1, 0)
		if err != nil {
			return classify(err, "domain %q: list its snapshots", dom.Name)
		}
		for _, s := range snapshots {
			one, err := describeSnapshot(c, s)
			if isNumber(err, golibvirt.ErrNoDomainSnapshot) {
				continue // it went this moment
			}
			if err != nil {
				return err
			}
			all = append(all, one)
		}
		return nil
	})
	slices.SortStableFunc(all, func(a, b hypervisor.DomainSnapshot) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.Name, b.Name))
	})
	return all, err
}

func describeSnapshot(c *conn, s golibvirt.DomainSnapshot) (found hypervisor.DomainSnapshot, err error) {
	text, err := c.DomainSnapshotGetXMLDesc(s, 0)
	if err != nil {
		return found, classify(err, "snapshot %q: read its description", s.Name)
	}
	x := new(libvirtxml.DomainSnapshot)
	if err := x.Unmarshal(text); err != nil {
		return found, fault.As(fault.Internal, err, "snapshot %q: understand its description", s.Name)
	}
	current, err := c.DomainSnapshotIsCurrent(s, 0)
	if err != nil {
		return found, classify(err, "snapshot %q", s.Name)
	}
	return parseSnapshot(x, current != 0), nil
}

func parseSnapshot(x *libvirtxml.DomainSnapshot, current bool) hypervisor.DomainSnapshot {
	s := hypervisor.DomainSnapshot{Name: x.Name, Description: x.Description, State: parseSnapshotState(x.State), Current: current}
	if x.Parent != nil {
		s.Parent = x.Parent.Name
	}
	if seconds, err := strconv.ParseInt(x.CreationTime, 10, 64); err == nil {
		s.Created = time.Unix(seconds, 0)
	}
	return s
}

// parseSnapshotState knows the words of libvirt's formatsnapshot.
func parseSnapshotState(word string) hypervisor.State {
	switch word {
	case "running", "blocked":
		return hypervisor.Running
	case "paused", "pmsuspended":
		return hypervisor.Paused
	case "shutdown":
		return hypervisor.Stopping
	case "crashed":
		return hypervisor.Crashed
	default:
		return hypervisor.Off
	}
}

// CreateSnapshot implements hypervisor.DomainSnapshots.
func (d *Driver) CreateSnapshot(ctx context.Context, machine, name, description string) (made hypervisor.DomainSnapshot, err error) {
	x := libvirtxml.DomainSnapshot{Name: name, Description: description}
	text, err := x.Marshal()
	if err != nil {
		return made, fault.As(fault.InvalidArgument, err, "snapshot %q", name)
	}
	err = d.onSlow(ctx, func(c *conn) error {
		dom, err := lookup(c, machine)
		if err != nil {
			return err
		}
		if err := checkSnapshotable(c, dom); err != nil {
			return err
		}
		if _, err := c.DomainSnapshotLookupByName(dom, name, 0); err == nil {
			return fault.New(fault.AlreadyExists, "domain %q: has a snapshot %q", dom.Name, name)
		}
		s, err := c.DomainSnapshotCreateXML(dom, text, 0)
		if err != nil {
			return classify(err, "domain %q: make snapshot %q", dom.Name, name)
		}
		made, err = describeSnapshot(c, s)
		return err
	})
	return made, err
}

// checkSnapshotable reports which disk cannot keep a snapshot inside. libvirt's own error for that has no number of its own.
func checkSnapshotable(c *conn, dom golibvirt.Domain) error {
	def, err := readXML(c, dom, 0)
	if err != nil {
		return err
	}
	state, err := askState(c, dom)
	if err == nil && state.alive() {
		err = fault.Wrap(parseDomain(def).CheckState(), "domain %q", dom.Name)
	}
	if err != nil {
		return err
	}
	disks := 0
	if def.Devices != nil {
		for _, disk := range def.Devices.Disks {
			if disk.ReadOnly != nil || disk.Device == "cdrom" || disk.Device == "floppy" || disk.Snapshot == "no" {
				continue
			}
			disks++
			if disk.Driver == nil || disk.Driver.Type != "qcow2" {
				return fault.New(fault.FailedPrecondition, "domain %q: disk %s is not QCOW2 and cannot keep a snapshot; convert it", dom.Name, targetOf(disk))
			}
		}
	}
	if disks == 0 {
		return fault.New(fault.FailedPrecondition, "domain %q: has no disk that could keep a snapshot", dom.Name)
	}
	return nil
}

func targetOf(disk libvirtxml.DomainDisk) string {
	if disk.Target == nil {
		return ""
	}
	return disk.Target.Dev
}

// RevertSnapshot implements hypervisor.DomainSnapshots.
func (d *Driver) RevertSnapshot(ctx context.Context, machine, name string) error {
	d.tracker.note(machine, func(r *run) { *r = run{} })
	err := d.onSnapshot(ctx, machine, name, "revert to it", func(c *conn, s golibvirt.DomainSnapshot) error {
		return c.DomainRevertToSnapshot(s, 0)
	})
	return d.afterwards(context.WithoutCancel(ctx), machine, err)
}

// DeleteSnapshot implements hypervisor.DomainSnapshots.
func (d *Driver) DeleteSnapshot(ctx context.Context, machine, name string) error {
	return d.onSnapshot(ctx, machine, name, "delete it", func(c *conn, s golibvirt.DomainSnapshot) error {
		return c.DomainSnapshotDelete(s, 0)
	})
}

func (d *Driver) onSnapshot(ctx context.Context, machine, name, what string, call func(*conn, golibvirt.DomainSnapshot) error) error {
	return d.onSlow(ctx, func(c *conn) error {
		dom, err := lookup(c, machine)
		if err != nil {
			return err
		}
		s, err := c.DomainSnapshotLookupByName(dom, name, 0)
		if isNumber(err, golibvirt.ErrNoDomainSnapshot) {
			return fault.New(fault.NotFound, "domain %q: has no snapshot %q", dom.Name, name)
		}
		if err != nil {
			return classify(err, "domain %q: snapshot %q", dom.Name, name)
		}
		return classify(call(c, s), "domain %q: snapshot %q: %s", dom.Name, name, what)
	})
}

// onSlow calls libvirt for what must not be left half-way: a call that has begun is waited for even if ctx ends.
func (d *Driver) onSlow(ctx context.Context, f func(*conn) error) error {
	if err := ctx.Err(); err != nil {
		return classify(err, "a call to libvirt was stopped")
	}
	return d.slow.do(context.WithoutCancel(ctx), f)
}
