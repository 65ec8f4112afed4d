package hypervisor

import (
	"context"
	"time"
)

// Virtualisation manages what the host's virtualisation service has beside the control plane's own machines and networks: domains are machines that anybody may
// have made. A domain is named by its UUID; Driver's Shutdown, Kill and Reboot work on any of them.
type Virtualisation interface {
	Domains
	DomainSnapshots
	DomainInterfaces
	StoragePools
	StorageVolumes
	VirtualNetworks
	Meter
}

// Domain is a machine as the virtualisation service sees it.
type Domain struct {
	UUID, Name string
	// ID is a number for this run; 0 = it is not alive.
	ID          int32
	State       State
	CPUs        uint32
	MemoryBytes uint64
	// Autostart says that it starts with the host, Persistent that it stays known when it is off.
	Autostart, Persistent bool
}

// Domains looks at machines and changes what they do.
type Domains interface {
	// ListDomains returns all domains in the order of their names.
	ListDomains(ctx context.Context) ([]Domain, error)
	// FindDomain returns the domain with this UUID or, if there is none, with this name.
	FindDomain(ctx context.Context, ref string) (Domain, error)
	// StartDomain starts a domain that is Off or Crashed as it is defined: other than Start it changes nothing of the definition.
	StartDomain(ctx context.Context, uuid string) error
	// Pause stops the processors of a Running domain, Unpause lets those of a Paused one run.
	Pause(ctx context.Context, uuid string) error
	Unpause(ctx context.Context, uuid string) error
	// SendKeys presses keys, at most MaxKeys, all at once and lets them go after hold (0 = the service's default). Codes are those of Linux's
	// input-event-codes.h.
	SendKeys(ctx context.Context, uuid string, codes []uint32, hold time.Duration) error
	// Screenshot returns a picture of the first display of a domain that is alive: PNG or PPM, as its bytes tell.
	Screenshot(ctx context.Context, uuid string) ([]byte, error)
	// Console says how the display and the serial port can be reached.
	Console(ctx context.Context, uuid string) (DomainConsole, error)
}

// MaxKeys is how many keys can be pressed at once (VIR_DOMAIN_SEND_KEY_MAX_KEYS of libvirt).
const MaxKeys = 16

// DomainConsole says how a domain's display and serial port can be reached. Ports and devices are known while it is alive.
type DomainConsole struct {
	VNC, SPICE, Serial         bool
	VNCSocket                  string
	VNCAddress, SPICEAddress   string
	VNCPort, SPICEPort         uint16
	SerialDevice, SerialSocket string
}

// DomainSnapshot is a kept state of a domain: its disks, and its memory if it was alive.
type DomainSnapshot struct {
	Name, Parent, Description string
	State                     State
	Created                   time.Time
	// Current: the domain's state descends from this snapshot directly.
	Current bool
}

// DomainSnapshots keeps and restores states of domains, inside their QCOW2 disks.
type DomainSnapshots interface {
	// ListSnapshots returns a domain's snapshots in the order of their creation.
	ListSnapshots(ctx context.Context, uuid string) ([]DomainSnapshot, error)
	// CreateSnapshot keeps the state of a domain in any state. FailedPrecondition if a disk that can be written to is not QCOW2, or there is none.
	CreateSnapshot(ctx context.Context, uuid, name, description string) (DomainSnapshot, error)
	// RevertSnapshot puts a domain back; it is then in the state that it had.
	RevertSnapshot(ctx context.Context, uuid, name string) error
	// DeleteSnapshot forgets a snapshot. Its children become those of its parent.
	DeleteSnapshot(ctx context.Context, uuid, name string) error
}

// DomainInterface is a network card of a domain.
type DomainInterface struct {
	MAC string
	// Network or Bridge is what it is connected to; Type says it in the service's words. Device is the host's end while the domain is alive.
	Network, Bridge, Model, Device, Type string
}

// DomainInterfaces are network cards.
type DomainInterfaces interface {
	ListInterfaces(ctx context.Context, uuid string) ([]DomainInterface, error)
	// AttachInterface connects a card, now if the domain is alive and for later starts. AlreadyExists if it has one with the MAC.
	AttachInterface(ctx context.Context, uuid string, nic NIC) error
	// DetachInterface takes the card with the MAC away, now if the domain is alive and for later starts. It returns when the guest has let it go, and is
	// FailedPrecondition if that takes too long.
	DetachInterface(ctx context.Context, uuid, mac string) error
}
