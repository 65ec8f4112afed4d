package fake

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
	"github.com/hyperplane-project/hyperplane/server/hypervisor/serial"
)

var _ hypervisor.Virtualisation = (*Driver)(nil)

// virtualisation is what a host has beside machines and networks that are served. The zero value is empty. The host's mutex guards it.
type virtualisation struct {
	domains  map[*machine]*domain
	pools    map[string]*storagePool
	networks map[string]*hypervisor.VirtualNetwork
	runs     int32
}

// domain is what a machine has beyond its Spec.
type domain struct {
	id        int32
	port      *serial.Port // of the run that id belongs to
	snapshots []hypervisor.DomainSnapshot
	keys      [][]uint32
}

func (h *Host) domain(m *machine) *domain {
	if h.virt.domains == nil {
		h.virt.domains = make(map[*machine]*domain)
	}
	d := h.virt.domains[m]
	if d == nil {
		d = new(domain)
		h.virt.domains[m] = d
	}
	switch {
	case !m.state.Alive():
		d.id, d.port = 0, nil
	case d.port != m.port:
		h.virt.runs++
		d.id, d.port = h.virt.runs, m.port
	}
	return d
}

func (h *Host) describe(m *machine) hypervisor.Domain {
	return hypervisor.Domain{
		UUID: m.spec.UUID, Name: m.spec.Name, ID: h.domain(m).id, State: m.state, CPUs: m.spec.CPUs, MemoryBytes: m.spec.MemoryBytes, Persistent: true,
		Autostart: h.appliances[m.spec.UUID].autostart,
	}
}

// ListDomains implements hypervisor.Domains.
func (d *Driver) ListDomains(ctx context.Context) (all []hypervisor.Domain, err error) {
	err = d.do(ctx, "ListDomains", func(h *Host) error {
		for _, m := range h.machines {
			all = append(all, h.describe(m))
		}
		return nil
	})
	slices.SortFunc(all, func(a, b hypervisor.Domain) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.UUID, b.UUID))
	})
	return all, err
}

// FindDomain implements hypervisor.Domains.
func (d *Driver) FindDomain(ctx context.Context, ref string) (found hypervisor.Domain, err error) {
	err = d.do(ctx, "FindDomain", func(h *Host) error {
		m := h.machines[ref]
		if m == nil {
			m = h.machines[h.names[ref]]
		}
		if m == nil {
			return fault.New(fault.NotFound, "domain %q does not exist", ref)
		}
		found = h.describe(m)
		return nil
	})
	return found, err
}

// StartDomain implements hypervisor.Domains.
func (d *Driver) StartDomain(ctx context.Context, uuid string) error {
	return d.doMachine(ctx, "StartDomain", uuid, (*Host).start)
}

// Pause implements hypervisor.Domains.
func (d *Driver) Pause(ctx context.Context, uuid string) error {
	return d.doMachine(ctx, "Pause", uuid, func(h *Host, m *machine) error {
		if err := m.need("paused", hypervisor.Running, hypervisor.Stopping); err != nil {
			return err
		}
		h.enterState(m, hypervisor.Paused)
		return nil
	})
}

// Unpause implements hypervisor.Domains.
func (d *Driver) Unpause(ctx context.Context, uuid string) error {
	return d.doMachine(ctx, "Unpause", uuid, func(h *Host, m *machine) error {
		if err := m.need("resumed", hypervisor.Paused); err != nil {
			return err
		}
		h.enterState(m, hypervisor.Running)
		return nil
	})
}

// SendKeys implements hypervisor.Domains.
func (d *Driver) SendKeys(ctx context.Context, uuid string, codes []uint32, _ time.Duration) error {
	return d.doMachine(ctx, "SendKeys", uuid, func(h *Host, m *machine) error {
		if len(codes) == 0 || len(codes) > hypervisor.MaxKeys {
			return fault.New(fault.InvalidArgument, "keys: %d are none, or more than %d", len(codes), hypervisor.MaxKeys)
		}
		if err := m.need("sent keys", hypervisor.Running, hypervisor.Stopping); err != nil {
			return err
		}
		dom := h.domain(m)
		dom.keys = append(dom.keys, slices.Clone(codes))
		return nil
	})
}

// Keys returns the keys that a machine was sent, one slice for each call.
func (h *Host) Keys(uuid string) (keys [][]uint32, err error) {
	err = h.withMachine(uuid, func(m *machine) error { keys = h.domain(m).keys; return nil })
	return keys, err
}

// Screenshot implements hypervisor.Domains: a black screen as PPM.
func (d *Driver) Screenshot(ctx context.Context, uuid string) (picture []byte, err error) {
	err = d.doMachine(ctx, "Screenshot", uuid, func(_ *Host, m *machine) error {
		if err := m.need("photographed", hypervisor.Running, hypervisor.Paused, hypervisor.Stopping); err != nil {
			return err
		}
		if m.spec.Console == hypervisor.ConsoleNone {
			return fault.New(fault.FailedPrecondition, "machine %q: has no display to photograph", m.spec.Name)
		}
		picture = append(fmt.Appendf(nil, "P6\n%d %d\n255\n", displayWidth, displayHeight), bytes.Repeat([]byte{0, 0, 0}, displayWidth*displayHeight)...)
		return nil
	})
	return picture, err
}

// Console implements hypervisor.Domains.
func (d *Driver) Console(ctx context.Context, uuid string) (found hypervisor.DomainConsole, err error) {
	err = d.doMachine(ctx, "Console", uuid, func(_ *Host, m *machine) error {
		found = hypervisor.DomainConsole{Serial: true, SerialSocket: "/fake/" + uuid + "/serial"}
		if m.spec.Console == hypervisor.ConsoleVNC {
			found.VNC, found.VNCSocket = true, "/fake/"+uuid+"/vnc"
		}
		return nil
	})
	return found, err
}
