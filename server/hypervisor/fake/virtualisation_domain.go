package fake

import (
	"context"
	"slices"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// ListSnapshots implements hypervisor.DomainSnapshots.
func (d *Driver) ListSnapshots(ctx context.Context, uuid string) (all []hypervisor.DomainSnapshot, err error) {
	err = d.doMachine(ctx, "ListSnapshots", uuid, func(h *Host, m *machine) error {
		all = slices.Clone(h.domain(m).snapshots)
		return nil
	})
	return all, err
}

// CreateSnapshot implements hypervisor.DomainSnapshots.
func (d *Driver) CreateSnapshot(ctx context.Context, uuid, name, description string) (made hypervisor.DomainSnapshot, err error) {
	err = d.doMachine(ctx, "CreateSnapshot", uuid, func(h *Host, m *machine) error {
		if err := checkSnapshotable(m); err != nil {
			return err
		}
		dom := h.domain(m)
		made = hypervisor.DomainSnapshot{Name: name, Description: description, State: m.state, Created: h.opts.Clock.Now(), Current: true}
		for i, s := range dom.snapshots {
			if s.Name == name {
				return fault.New(fault.AlreadyExists, "domain %q: has a snapshot %q", m.spec.Name, name)
			}
			if s.Current {
				made.Parent = dom.snapshots[i].Name
			}
		}
		dom.setCurrent("")
		dom.snapshots = append(dom.snapshots, made)
		return nil
	})
	return made, err
}

func checkSnapshotable(m *machine) error {
	if m.state.Alive() {
		if err := m.spec.CheckState(); err != nil {
			return fault.Wrap(err, "domain %q", m.spec.Name)
		}
	}
	disks := 0
	for _, disk := range m.spec.Disks {
		if disk.ReadOnly || disk.CDROM {
			continue
		}
		if disks++; disk.Format != hypervisor.DiskQCOW2 {
			return fault.New(fault.FailedPrecondition, "domain %q: disk %s is not QCOW2 and cannot keep a snapshot; convert it", m.spec.Name, disk.File)
		}
	}
	if disks == 0 {
		return fault.New(fault.FailedPrecondition, "domain %q: has no disk that could keep a snapshot", m.spec.Name)
	}
	return nil
}

func (d *domain) setCurrent(name string) {
	d.snapshots = slices.Clone(d.snapshots)
	for i := range d.snapshots {
		d.snapshots[i].Current = d.snapshots[i].Name == name
	}
}

// RevertSnapshot implements hypervisor.DomainSnapshots. What disks held is not put back: the guest does not write.
func (d *Driver) RevertSnapshot(ctx context.Context, uuid, name string) error {
	return d.onSnapshot(ctx, "RevertSnapshot", uuid, name, func(h *Host, m *machine, dom *domain, i int) error {
		state := dom.snapshots[i].State
		if state.Alive() && !m.state.Alive() {
			if err := h.start(m); err != nil {
				return err
			}
		}
		if m.state != state {
			h.enterState(m, state)
		}
		dom.setCurrent(name)
		return nil
	})
}

// DeleteSnapshot implements hypervisor.DomainSnapshots.
func (d *Driver) DeleteSnapshot(ctx context.Context, uuid, name string) error {
	return d.onSnapshot(ctx, "DeleteSnapshot", uuid, name, func(_ *Host, _ *machine, dom *domain, i int) error {
		gone := dom.snapshots[i]
		if gone.Current {
			dom.setCurrent(gone.Parent)
		}
		dom.snapshots = slices.Delete(slices.Clone(dom.snapshots), i, i+1)
		for j := range dom.snapshots {
			if dom.snapshots[j].Parent == name {
				dom.snapshots[j].Parent = gone.Parent
			}
		}
		return nil
	})
}

func (d *Driver) onSnapshot(ctx context.Context, method Method, uuid, name string, f func(*Host, *machine, *domain, int) error) error {
	return d.doMachine(ctx, method, uuid, func(h *Host, m *machine) error {
		dom := h.domain(m)
		i := slices.IndexFunc(dom.snapshots, func(s hypervisor.DomainSnapshot) bool { return s.Name == name })
		if i < 0 {
			return fault.New(fault.NotFound, "domain %q: has no snapshot %q", m.spec.Name, name)
		}
		return f(h, m, dom, i)
	})
}

// ListInterfaces implements hypervisor.DomainInterfaces.
func (d *Driver) ListInterfaces(ctx context.Context, uuid string) (all []hypervisor.DomainInterface, err error) {
	err = d.doMachine(ctx, "ListInterfaces", uuid, func(_ *Host, m *machine) error {
		for _, nic := range m.spec.NICs {
			i := hypervisor.DomainInterface{MAC: nic.MAC, Network: nic.Network, Bridge: nic.Bridge, Model: nic.Model, Type: "bridge"}
			if nic.Network != "" {
				i.Type = "network"
			}
			if nic.Model == "" {
				i.Model = "virtio"
			}
			all = append(all, i)
		}
		return nil
	})
	return all, err
}

// AttachInterface implements hypervisor.DomainInterfaces.
func (d *Driver) AttachInterface(ctx context.Context, uuid string, nic hypervisor.NIC) error {
	return d.doMachine(ctx, "AttachInterface", uuid, func(h *Host, m *machine) error {
		if m.nic(nic.MAC) >= 0 {
			return fault.New(fault.AlreadyExists, "domain %q: has a network card %s", m.spec.Name, nic.MAC)
		}
		if m.state.Alive() && nic.Network != "" && h.networks[nic.Network] == nil {
			return fault.New(fault.NotFound, "domain %q: attach a network card: network %q does not exist", m.spec.Name, nic.Network)
		}
		m.spec.NICs = append(slices.Clone(m.spec.NICs), nic)
		return nil
	})
}

// DetachInterface implements hypervisor.DomainInterfaces.
func (d *Driver) DetachInterface(ctx context.Context, uuid, mac string) error {
	return d.doMachine(ctx, "DetachInterface", uuid, func(_ *Host, m *machine) error {
		i := m.nic(mac)
		if i < 0 {
			return fault.New(fault.NotFound, "domain %q: has no network card %s", m.spec.Name, mac)
		}
		m.spec.NICs = slices.Delete(slices.Clone(m.spec.NICs), i, i+1)
		return nil
	})
}

func (m *machine) nic(mac string) int {
	return slices.IndexFunc(m.spec.NICs, func(n hypervisor.NIC) bool { return n.MAC == mac })
}
