package hypervisor

import (
	"context"
	"time"
)

// StatsGroup is a set of parts of a domain's figures.
type StatsGroup uint8

// The groups.
const (
	StatsCPU StatsGroup = 1 << iota
	StatsMemory
	StatsDisks
	StatsInterfaces
	StatsAll = StatsCPU | StatsMemory | StatsDisks | StatsInterfaces
)

// DomainFigures are what a domain uses. Counters begin anew with each run; ID tells runs apart.
type DomainFigures struct {
	UUID, Name string
	ID         int32
	State      State
	CPU        CPUFigures
	Memory     MemoryFigures
	Disks      []DiskFigures
	Interfaces []InterfaceFigures
}

// CPUFigures are times since a domain's start. Total includes the emulator's own.
type CPUFigures struct {
	VCPUs               uint32
	Total, User, System time.Duration
	Each                []time.Duration
}

// MemoryFigures are in KiB.
type MemoryFigures struct {
	Total, Resident uint64
	// GuestTells says that the guest's balloon driver gave Unused, Usable, SwapIn and SwapOut.
	GuestTells                      bool
	Unused, Usable, SwapIn, SwapOut uint64
}

// DiskFigures are counters of a disk, and its size in bytes.
type DiskFigures struct {
	Device, Path                                       string
	ReadBytes, ReadRequests, WriteBytes, WriteRequests uint64
	Capacity, Allocation                               uint64
	// Errors are requests that failed; nil = not counted.
	Errors *uint64
}

// InterfaceFigures are counters of a network card, in the guest's directions.
type InterfaceFigures struct {
	Name                                    string
	RxBytes, RxPackets, RxErrors, RxDropped uint64
	TxBytes, TxPackets, TxErrors, TxDropped uint64
}

// HostFigures are times of all processors together since the host's start, and memory in KiB.
type HostFigures struct {
	CPUs                                     uint32
	User, Kernel, Idle, IOWait               time.Duration
	MemoryTotal, MemoryFree, MemoryAvailable uint64
}

// Meter measures.
type Meter interface {
	// MeasureDomains returns the figures of the given groups of the domains that are alive, or of one domain (uuid; in any state), ordered by name.
	MeasureDomains(ctx context.Context, uuid string, groups StatsGroup) ([]DomainFigures, error)
	MeasureHost(ctx context.Context) (HostFigures, error)
}
