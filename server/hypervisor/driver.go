// Package hypervisor is what a virtualisation host must be able to do for the control plane.
//
// A Driver runs machines; it knows nothing of owners, tags, jobs or transports. Package libvirt implements it on libvirt/KVM, package
// fake in memory (it ships: all other packages test against it), and package hypervisortest is the conformance suite for both.
// Errors are faults (internal/fault): NotFound for an unknown machine, FailedPrecondition for a wrong state, Unavailable while the
// host's virtualisation service cannot be reached. Methods may be called from several goroutines at once; calls on one machine are
// serialised by the caller.
package hypervisor

import (
	"context"
	"io"
	"net/netip"
	"time"
)

// State is what a machine does right now, as the host sees it.
type State uint8

// The states.
const (
	// Off: defined, no process. Also after a clean power-off by the guest.
	Off State = iota
	// Running: the guest executes (also while it is booting or idle).
	Running
	// Paused: the guest's processors are stopped.
	Paused
	// Stopping: the guest was asked to power off and has not yet.
	Stopping
	// Crashed: the process ended without the guest's or our wish. The machine stays defined.
	Crashed
)

// Spec is the wish for a machine. The driver translates it; there is no other input to a machine's definition.
type Spec struct {
	// UUID is the key of the machine, in canonical text form. Name is for people and for log files: unique on the host.
	UUID, Name string
	CPUs       uint32
	// CPUMillis is the share of a host processor times 1000 that the machine may use in all (0 = no limit).
	CPUMillis uint32
	// CPUPriority is the machine's share of processor time while processors are short, as nice(2) says it: -20 (most) to 19 (least).
	CPUPriority int32
	MemoryBytes uint64
	// MaxCPUs and MaxMemoryBytes are how far Adjust can let the machine grow; 0 = not at all. Room costs guests memory: a Linux guest some hundred
	// KiB for each further processor, and 64 MiB if only room, and not its memory, reaches above 4 GiB.
	MaxCPUs        uint32
	MaxMemoryBytes uint64
	Arch           Arch
	Machine        MachineType
	Firmware       Firmware
	Disks          []Disk
	NICs           []NIC
	// Console is what the guest's display is.
	Console Console
	// Kernel, Initrd and CommandLine boot a kernel directly; empty = boot from the first disk.
	Kernel, Initrd, CommandLine string
	Watchdog                    Watchdog
	// NetBoot has the firmware try the first network card before the first disk.
	NetBoot bool
}

// Arch is a processor architecture.
type Arch uint8

// The architectures. ArchAuto is the host's.
const (
	ArchAuto Arch = iota
	ArchAMD64
	ArchARM64
)

// MachineType is the emulated board. MachineAuto is the best for the architecture.
type MachineType uint8

// The machine types.
const (
	MachineAuto MachineType = iota
	MachineQ35
	MachinePC
	MachineVirt
)

// Firmware is what starts the guest. FirmwareAuto is BIOS on amd64 and UEFI elsewhere.
type Firmware uint8

// The firmware types.
const (
	FirmwareAuto Firmware = iota
	FirmwareBIOS
	FirmwareUEFI
)

// Console is the kind of display.
type Console uint8

// The consoles. ConsoleDummy is a display that nobody can connect to.
const (
	ConsoleNone Console = iota
	ConsoleDummy
	ConsoleVNC
)

// Watchdog is an emulated watchdog card; the zero value is none. Model is ib700 or i6300esb, Action none, reset, shutdown or poweroff.
type Watchdog struct{ Model, Action string }

// DiskFormat is the format of a disk's file.
type DiskFormat uint8

// The disk formats.
const (
	DiskRaw DiskFormat = iota
	DiskQCOW2
)

// DiskBus is how the guest sees a disk.
type DiskBus uint8

// The buses.
const (
	BusVirtio DiskBus = iota
	BusIDE
	BusSATA
	BusSCSI
	// BusNVMe disks each have a controller of their own. They come and grow only while the machine is off, and its state cannot be moved or kept while it runs.
	BusNVMe
)

// Disk is a disk of a machine. The first one is booted from.
type Disk struct {
	// File is an absolute path on the host. The driver never makes, grows or deletes it.
	File     string
	Format   DiskFormat
	Bus      DiskBus
	ReadOnly bool
	// CDROM shows the disk as a read-only CD, whatever Bus says: on the board's SATA or IDE controller, or SCSI where it has neither. It must not be the first.
	CDROM bool
}

// NIC is a network card, connected to a bridge that exists or to a Network of this driver.
type NIC struct {
	// MAC is in lower-case colon form.
	MAC string
	// Network is the name of a network made by EnsureNetwork; Bridge that of a host bridge. Exactly one is set.
	Network, Bridge string
	// Queues is the number of queue pairs; 0 and 1 are one.
	Queues uint32
	// Model is virtio (also when empty), e1000 or e1000e.
	Model string
}

// Machine is what the host knows of a machine.
type Machine struct {
	UUID, Name string
	State      State
	// Since is when the state was entered, as far as the driver saw it; otherwise when it first saw the machine.
	Since time.Time
	// Spec is what the machine was defined with as read back from the host: sizes, disks and NICs as they are now.
	Spec Spec
}

// Event tells that a machine is in a (new) state. Gone means it is no longer defined. After a lost connection the driver
// reconnects by itself and sends one event per machine, so that a watcher that keeps the last event of each is right again.
type Event struct {
	UUID  string
	State State
	Gone  bool
	At    time.Time
}

// Network is a virtual network on a bridge of the host, with a DHCP server that leases only to the hosts it was told of.
type Network struct {
	// Name is the network's key, Bridge the bridge's interface name (at most 15 bytes).
	Name, Bridge string
	// Gateway is the host's own address in the network, with the prefix length.
	Gateway netip.Prefix
	// Gateway6 is its IPv6 address, with the prefix length; zero = there is none. It needs NoDHCP.
	Gateway6 netip.Prefix
	Domain   string
	// DNS are the name servers that guests are told of by DHCP; none = the host's own, at the gateway's address.
	DNS []netip.Addr
	// Isolated networks are not routed or translated by the host.
	Isolated bool
	// NoDHCP networks have no DHCP server and no name server of the virtualisation service: the caller serves them. SetLeases is then FailedPrecondition.
	NoDHCP bool
}

// Lease binds an address to a network card in a network's DHCP server.
type Lease struct {
	MAC      string
	Address  netip.Addr
	Hostname string
}

// Host describes the host.
type Host struct {
	Hostname    string
	CPUs        uint32
	MemoryBytes uint64
	FreeBytes   uint64
	Arch        Arch
	// Accelerated says whether guests run on the processor itself (KVM works); otherwise they are emulated. Why says how that was found.
	Accelerated bool
	Why         string
	// LimitsCPU says whether Spec.CPUMillis and CPUPriority are enforced; otherwise they are only kept. Why says what the host lacks for it.
	LimitsCPU bool
	// NoNVMe says what the host lacks for disks on the NVMe bus; empty = nothing.
	NoNVMe string
	// Version is the driver's and the virtualisation service's version, for people.
	Version string
}

// Driver runs machines on one host.
type Driver interface {
	// Host describes the host. The answer to Accelerated is found once, by trying, and kept.
	Host(ctx context.Context) (Host, error)

	// Define makes a machine known, or changes the definition of one that is Off (or Crashed). AlreadyExists if the name belongs to another UUID.
	Define(ctx context.Context, spec Spec) error
	// Adjust gives a machine that is Running or Paused other resources, at once and for its later starts. What a live machine cannot be given is
	// FailedPrecondition (see Spec.CheckAdjust). After an error the definition is as before; only if the host failed half-way the live machine may
	// keep processors that it was given. The guest decides when it uses new processors and memory.
	Adjust(ctx context.Context, uuid string, r Resources) error
	// Undefine forgets a machine that is Off or Crashed, with everything the host keeps for it but not its disks' files. Unknown: no error.
	Undefine(ctx context.Context, uuid string) error
	// Start starts a machine that is Off or Crashed.
	Start(ctx context.Context, uuid string) error
	// Shutdown asks the guest to power off (ACPI) and returns at once. Whether it does is seen in its state.
	Shutdown(ctx context.Context, uuid string) error
	// Kill ends the machine's process and returns when it has gone. A machine that is Off is no error.
	Kill(ctx context.Context, uuid string) error
	// Reboot asks the guest to restart; Reset restarts it without asking.
	Reboot(ctx context.Context, uuid string) error
	Reset(ctx context.Context, uuid string) error

	// Get returns one machine, List all machines on the host, also those not made by us, ordered by name.
	Get(ctx context.Context, uuid string) (Machine, error)
	List(ctx context.Context) ([]Machine, error)
	// Watch sends the state of every machine, then every change, until ctx ends; then the channel is closed. A slow reader gets the latest
	// state of each machine, never a backlog.
	Watch(ctx context.Context) (<-chan Event, error)

	// OpenSerial connects to serial port 0 of a Running machine: a byte pipe both ways. Output from before the connection may be delivered first
	// (at most the last 64 KiB). One connection at a time: a second one is FailedPrecondition unless takeover is set; then the first one ends.
	OpenSerial(ctx context.Context, uuid string, takeover bool) (io.ReadWriteCloser, error)
	// OpenDisplay connects to the VNC server of a Running machine with ConsoleVNC: RFB bytes both ways.
	OpenDisplay(ctx context.Context, uuid string) (io.ReadWriteCloser, error)

	LiveDisks
	Migration
	Monitor
	Definitions
	Appliances
	Virtualisation

	// EnsureNetwork makes a network, or changes it to this shape, and starts it. It survives a restart of the driver.
	// FailedPrecondition if it would change while machines are connected, AlreadyExists if the bridge belongs to another network.
	// Leases are kept unless the gateway changes.
	EnsureNetwork(ctx context.Context, n Network) error
	// RemoveNetwork stops and forgets a network. Unknown: no error. FailedPrecondition while machines are connected.
	RemoveNetwork(ctx context.Context, name string) error
	// SetLeases makes the network's DHCP server hand out exactly these leases.
	SetLeases(ctx context.Context, network string, leases []Lease) error

	// Close ends the driver's connections. Machines and networks live on.
	Close() error
}
