package fake

import (
	"fmt"
	"strings"
	"sync"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// maxLine bounds what a guest remembers of a line that does not end.
const maxLine = 4 << 10

// boot prints what the test guest prints. Firmware alone prints nothing.
func (h *Host) boot(m *machine) {
	if !m.boots() {
		return
	}
	var text strings.Builder
	firmware := strings.ToLower(m.spec.Firmware.String())
	fmt.Fprintf(&text, "GUEST BOOT marker=fake firmware=%s cpus=%d memory-kib=%d\r\n", firmware, m.spec.CPUs, m.spec.MemoryBytes>>10)
	for i, nic := range m.spec.NICs {
		if n := h.networks[nic.Network]; n != nil {
			text.WriteString(n.dhcp(i, nic.MAC))
		}
	}
	text.WriteString("GUEST READY marker=fake\r\n")
	m.port.Output([]byte(text.String()))
}

// keyboard is the guest's end of the serial port.
type keyboard struct {
	host *Host
	uuid string
	mu   sync.Mutex
	line []byte
}

// Write takes what was typed and obeys each line.
func (k *keyboard) Write(b []byte) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, c := range b {
		switch {
		case c == '\n' || c == '\r':
			k.host.obey(k.uuid, string(k.line))
			k.line = k.line[:0]
		case len(k.line) < maxLine:
			k.line = append(k.line, c)
		}
	}
	return len(b), nil
}

// obey does what a line says. A guest that is paused, or that has nothing to boot, does not read.
func (h *Host) obey(uuid, line string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	m := h.machines[uuid]
	if m == nil || m.port == nil || m.state == hypervisor.Paused || !m.boots() || line == "" {
		return
	}
	switch line {
	case "poweroff":
		h.enterState(m, hypervisor.Off)
	case "reboot":
		h.restart(m)
	default:
		m.port.Output([]byte("ECHO:" + strings.TrimPrefix(line, "echo ") + "\r\n"))
	}
}

// SetACPI says how a machine's guest takes its power button from now on.
func (h *Host) SetACPI(uuid string, behaviour ACPI) error {
	return h.withMachine(uuid, func(m *machine) error { m.acpi = behaviour; return nil })
}

// Print makes a guest say text on its serial port.
func (h *Host) Print(uuid, text string) error {
	return h.withMachine(uuid, func(m *machine) error {
		if m.port == nil {
			return m.need("heard", hypervisor.Running)
		}
		m.port.Output([]byte(text))
		return nil
	})
}

// Crash ends a machine's process without anybody's wish.
func (h *Host) Crash(uuid string) error { return h.end(uuid, hypervisor.Crashed) }

// PowerOff makes a guest power itself off.
func (h *Host) PowerOff(uuid string) error { return h.end(uuid, hypervisor.Off) }

func (h *Host) end(uuid string, s hypervisor.State) error {
	return h.withMachine(uuid, func(m *machine) error {
		if !m.state.Alive() {
			return m.need("ended", hypervisor.Running)
		}
		h.enterState(m, s)
		return nil
	})
}

// SetPaused stops a Running machine's processors, or lets a Paused one's run.
func (h *Host) SetPaused(uuid string, paused bool) error {
	from, to := hypervisor.Paused, hypervisor.Running
	if paused {
		from, to = to, from
	}
	return h.withMachine(uuid, func(m *machine) error {
		if err := m.need(to.String(), from); err != nil {
			return err
		}
		h.enterState(m, to)
		return nil
	})
}

func (h *Host) withMachine(uuid string, f func(*machine) error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	m := h.machines[uuid]
	if m == nil {
		return unknownMachine(uuid)
	}
	return f(m)
}

func unknownMachine(uuid string) error {
	return fault.New(fault.NotFound, "machine %s does not exist", uuid)
}
