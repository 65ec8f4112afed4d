// Package fake is a virtualisation host in memory. It ships, so that every other package can be tested, and the daemon tried out,
// without libvirt.
//
// Its machines obey the rules of hypervisor.Driver like real ones: the conformance suite in hypervisortest runs against both. A
// simulated guest boots if it has a disk or a kernel, says on its serial port the lines that the project's test guest says (GUEST
// BOOT, GUEST IP for each leased card, GUEST READY), answers "echo X" or "X" with "ECHO:X", and obeys its power button.
// A Host's own methods are what a driver's user cannot do: break in from behind, fail calls, move time.
package fake

import (
	"context"
	"os"
	"sync"
	"time"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// Options describe the host. The zero value is good.
type Options struct {
	// Clock is the host's time; nil = the real one.
	Clock Clock
	// ShutdownDelay is how long a guest takes to power off after it was asked. 0 = it is off when Shutdown returns.
	ShutdownDelay time.Duration
	// FileExists tells whether a disk, kernel or initrd is there when a machine starts; nil = look at the file system.
	FileExists func(path string) bool
	// Hostname, CPUs, MemoryBytes and Arch are what Driver.Host says. Defaults: "fake", 8, 64 GiB, amd64.
	Hostname    string
	CPUs        uint32
	MemoryBytes uint64
	Arch        hypervisor.Arch
	// NoNVMe is what the host lacks for NVMe disks; empty = nothing.
	NoNVMe string
}

// Host holds machines and networks. They live on when a Driver is closed, like those of a real host.
type Host struct {
	opts Options

	mu       sync.Mutex
	machines map[string]*machine // by UUID
	names    map[string]string   // machine names to UUIDs
	networks map[string]*network // by name
	drivers  map[*Driver]struct{}
	faults   map[Method][]error
	gates    map[Method]chan struct{}
	virt     virtualisation
	down     bool
	others   uint64 // bytes of memory that is used by others than machines
	// appliances is what is kept for hypervisor.Appliances, by UUID.
	appliances map[string]appliance
}

// UseMemory says how many bytes of memory others than machines use from now on.
func (h *Host) UseMemory(bytes uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.others = bytes
}

// NewHost makes a host without machines.
func NewHost(opts Options) *Host {
	if opts.Clock == nil {
		opts.Clock = realClock{}
	}
	if opts.FileExists == nil {
		opts.FileExists = func(path string) bool { _, err := os.Stat(path); return err == nil }
	}
	if opts.Hostname == "" {
		opts.Hostname = "fake"
	}
	if opts.CPUs == 0 {
		opts.CPUs = 8
	}
	if opts.MemoryBytes == 0 {
		opts.MemoryBytes = 64 << 30
	}
	if opts.Arch == hypervisor.ArchAuto {
		opts.Arch = hypervisor.ArchAMD64
	}
	return &Host{
		opts:     opts,
		machines: make(map[string]*machine),
		names:    make(map[string]string),
		networks: make(map[string]*network),
		drivers:  make(map[*Driver]struct{}),
		faults:   make(map[Method][]error),
		gates:    make(map[Method]chan struct{}),
	}
}

// New makes a host with one driver, for the many tests that need no second.
func New(opts Options) (*Host, *Driver) {
	h := NewHost(opts)
	return h, h.Open()
}

// Open connects a driver to the host. Several may be open, as while one daemon replaces another.
func (h *Host) Open() *Driver {
	h.mu.Lock()
	defer h.mu.Unlock()
	d := &Driver{host: h, closers: make(map[*connection]struct{})}
	h.drivers[d] = struct{}{}
	for _, m := range h.machines {
		d.hub.Publish(m.event())
	}
	return d
}

// Disconnect makes the host's virtualisation service unreachable: calls fail with Unavailable and no events arrive. Machines run on.
func (h *Host) Disconnect() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.down = true
}

// Reconnect takes back Disconnect. Watchers get one event for each machine.
func (h *Host) Reconnect() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.down = false
	for d := range h.drivers {
		for _, m := range h.machines {
			d.hub.Publish(m.event())
		}
	}
}

// publish tells every driver of a machine's state. The host's mutex is held.
func (h *Host) publish(ev hypervisor.Event) {
	if h.down {
		return
	}
	for d := range h.drivers {
		d.hub.Publish(ev)
	}
}

// enter begins a driver's call: it obeys gates, faults, and the state of the connection.
func (h *Host) enter(ctx context.Context, d *Driver, m Method) error {
	h.mu.Lock()
	gate := h.gates[m]
	h.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
		}
	}
	if err := ctx.Err(); err != nil {
		return fault.As(fault.CodeOf(err), err, "%s", m)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, open := h.drivers[d]; !open {
		return fault.New(fault.Unavailable, "the driver is closed")
	}
	if h.down {
		return fault.New(fault.Unavailable, "the virtualisation service of host %s cannot be reached", h.opts.Hostname)
	}
	if queue := h.faults[m]; len(queue) > 0 {
		h.faults[m] = queue[1:]
		return queue[0]
	}
	return nil
}
