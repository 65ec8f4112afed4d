package fake

import (
	"slices"
	"time"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
	"github.com/hyperplane-project/hyperplane/server/hypervisor/serial"
)

// ACPI says what a guest does when its power button is pressed.
type ACPI uint8

// The behaviours.
const (
	// ACPIAuto obeys if there is something to boot. A machine without disk and kernel has only firmware, which does not listen.
	ACPIAuto ACPI = iota
	// ACPIObey powers off, or restarts on Reboot.
	ACPIObey
	// ACPIIgnore does nothing, like a guest that hangs.
	ACPIIgnore
)

// machine is guarded by its host's mutex.
type machine struct {
	spec  hypervisor.Spec
	state hypervisor.State
	since time.Time
	acpi  ACPI
	// keepsDisks says that the guest lets no disk go.
	keepsDisks bool
	// redirects are the files to which changes of disks go, by the disks' files.
	redirects map[string]string

	// The following are set while the machine is alive.
	port     *serial.Port
	displays map[*display]struct{}
	cancel   func() // stops a power-off that is under way, or nil
}

func (m *machine) event() hypervisor.Event {
	return hypervisor.Event{UUID: m.spec.UUID, State: m.state, At: m.since}
}

func (m *machine) snapshot() hypervisor.Machine {
	return hypervisor.Machine{UUID: m.spec.UUID, Name: m.spec.Name, State: m.state, Since: m.since, Spec: cloneSpec(m.spec)}
}

// boots says whether the machine has anything to boot.
func (m *machine) boots() bool { return len(m.spec.Disks) > 0 || m.spec.Kernel != "" }

func (m *machine) obeysACPI() bool {
	return m.acpi == ACPIObey || m.acpi == ACPIAuto && m.boots()
}

// need reports whether the machine is in one of the states that an operation needs.
func (m *machine) need(what string, states ...hypervisor.State) error {
	if slices.Contains(states, m.state) {
		return nil
	}
	return fault.New(fault.FailedPrecondition, "machine %q is %s and cannot be %s", m.spec.Name, m.state, what)
}

// enter puts a machine into a state and tells the watchers. A machine that ends loses its connections.
func (h *Host) enterState(m *machine, s hypervisor.State) {
	if m.cancel != nil && s != hypervisor.Stopping {
		m.cancel()
		m.cancel = nil
	}
	if !s.Alive() && m.port != nil {
		m.port.Close()
		m.port = nil
		for d := range m.displays {
			d.close()
		}
		m.displays = nil
	}
	m.state, m.since = s, h.opts.Clock.Now()
	h.publish(m.event())
}

func (h *Host) define(spec hypervisor.Spec) error {
	if owner, taken := h.names[spec.Name]; taken && owner != spec.UUID {
		return fault.New(fault.AlreadyExists, "machine name %q is taken by machine %s", spec.Name, owner)
	}
	m := h.machines[spec.UUID]
	if m == nil {
		m = &machine{spec: spec}
		h.machines[spec.UUID] = m
		h.names[spec.Name] = spec.UUID
		h.enterState(m, hypervisor.Off)
		return nil
	}
	if err := m.need("changed", hypervisor.Off, hypervisor.Crashed); err != nil {
		return err
	}
	for file, overlay := range m.redirects {
		return fault.New(fault.FailedPrecondition, "machine %q: disk %s is redirected to %s; merge it first", spec.Name, file, overlay)
	}
	delete(h.names, m.spec.Name)
	h.names[spec.Name] = spec.UUID
	m.spec = spec
	return nil
}

func (h *Host) undefine(m *machine) error {
	if err := m.need("undefined", hypervisor.Off, hypervisor.Crashed); err != nil {
		return err
	}
	delete(h.machines, m.spec.UUID)
	delete(h.names, m.spec.Name)
	delete(h.appliances, m.spec.UUID)
	h.publish(hypervisor.Event{UUID: m.spec.UUID, Gone: true, At: h.opts.Clock.Now()})
	return nil
}

func (h *Host) start(m *machine) error {
	if err := m.need("started", hypervisor.Off, hypervisor.Crashed); err != nil {
		return err
	}
	if err := h.checkResources(m); err != nil {
		return err
	}
	m.port = serial.New(&keyboard{host: h, uuid: m.spec.UUID})
	h.enterState(m, hypervisor.Running)
	h.boot(m)
	return nil
}

// checkResources reports what a machine needs to start and the host has not.
func (h *Host) checkResources(m *machine) error {
	files := []string{m.spec.Kernel, m.spec.Initrd}
	for _, d := range m.spec.Disks {
		files = append(files, d.File)
	}
	for _, file := range files {
		if file != "" && !h.opts.FileExists(file) && !h.hasVolume(file) {
			return fault.New(fault.FailedPrecondition, "machine %q cannot start: file %s does not exist", m.spec.Name, file)
		}
	}
	for _, nic := range m.spec.NICs {
		if nic.Network != "" && h.networks[nic.Network] == nil {
			return fault.New(fault.FailedPrecondition, "machine %q cannot start: network %q does not exist", m.spec.Name, nic.Network)
		}
	}
	return nil
}

func (h *Host) shutdown(m *machine) error {
	if err := m.need("shut down", hypervisor.Running, hypervisor.Stopping); err != nil {
		return err
	}
	if m.state == hypervisor.Running {
		h.enterState(m, hypervisor.Stopping)
	}
	if !m.obeysACPI() || m.cancel != nil {
		return nil
	}
	if h.opts.ShutdownDelay == 0 {
		h.enterState(m, hypervisor.Off)
		return nil
	}
	port := m.port // tells this run of the machine from a later one
	m.cancel = h.opts.Clock.AfterFunc(h.opts.ShutdownDelay, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if m.port == port && m.state == hypervisor.Stopping {
			h.enterState(m, hypervisor.Off)
		}
	})
	return nil
}

func (h *Host) kill(m *machine) error {
	if m.state.Alive() {
		h.enterState(m, hypervisor.Off)
	}
	return nil
}

func (h *Host) reboot(m *machine) error {
	if err := m.need("rebooted", hypervisor.Running, hypervisor.Stopping); err != nil {
		return err
	}
	if m.obeysACPI() {
		h.restart(m)
	}
	return nil
}

func (h *Host) reset(m *machine) error {
	if err := m.need("reset", hypervisor.Running, hypervisor.Stopping); err != nil {
		return err
	}
	h.restart(m)
	return nil
}

// restart begins the guest anew in the same process: its connections stay.
func (h *Host) restart(m *machine) {
	h.enterState(m, hypervisor.Running)
	h.boot(m)
}

// cloneSpec copies a spec so that no slice is shared.
func cloneSpec(s hypervisor.Spec) hypervisor.Spec {
	s.Disks = append([]hypervisor.Disk(nil), s.Disks...)
	s.NICs = append([]hypervisor.NIC(nil), s.NICs...)
	return s
}
