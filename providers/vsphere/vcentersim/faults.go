package vcentersim

import (
	"fmt"
	"slices"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// FaultKind is what goes wrong with the reads of a disk.
type FaultKind string

// The kinds of fault.
const (
	// FaultCut drops the connection after AfterBytes, or at AtPercent of the stream.
	FaultCut FaultKind = "cut"
	// FaultTruncate ends the stream there as if that were all of it.
	FaultTruncate FaultKind = "truncate"
	// FaultExpire lets the lease expire there, whatever progress was reported, and drops the connection.
	FaultExpire FaultKind = "expire"
	// FaultSlow sends BytesPerSecond.
	FaultSlow FaultKind = "slow"
	// FaultDigest puts wrong digests into the manifest.
	FaultDigest FaultKind = "digest"
	// FaultUnavailable answers 503.
	FaultUnavailable FaultKind = "unavailable"
)

// Fault is a failure to produce when a disk is read through a lease.
type Fault struct {
	Kind FaultKind `json:"kind"`
	// VM is the name of a VM, Disk the number of its disk, counted from 0 in the order of the configuration.
	VM   string `json:"vm"`
	Disk int    `json:"disk"`
	// AfterBytes or AtPercent (0 to 100) say where; AtPercent counts if it is not 0.
	AfterBytes int64   `json:"after_bytes,omitempty"`
	AtPercent  float64 `json:"at_percent,omitempty"`
	// BytesPerSecond is the speed of FaultSlow.
	BytesPerSecond int64 `json:"bytes_per_second,omitempty"`
	// Reads is for how many reads the fault stays; 0 means one, a negative number means all.
	Reads int `json:"reads,omitempty"`
}

// Inject adds a fault. Several may apply to one read.
func (s *Simulator) Inject(f Fault) error {
	switch f.Kind {
	case FaultCut, FaultTruncate, FaultExpire, FaultSlow, FaultDigest, FaultUnavailable:
	default:
		return fault.New(fault.InvalidArgument, "vcentersim: fault kind %q is not known", f.Kind)
	}
	if f.Kind == FaultSlow && f.BytesPerSecond <= 0 {
		return fault.New(fault.InvalidArgument, "vcentersim: a slow fault needs bytes_per_second")
	}
	if f.AfterBytes < 0 || f.AtPercent < 0 || f.AtPercent > 100 {
		return fault.New(fault.InvalidArgument, "vcentersim: after_bytes must not be negative and at_percent must be 0 to 100")
	}
	if _, err := s.diskOf(f.VM, f.Disk); err != nil {
		return err
	}
	if f.Reads == 0 {
		f.Reads = 1
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, &f)
	return nil
}

// ClearFaults takes back all faults.
func (s *Simulator) ClearFaults() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
}

// plan is what the faults make of one read. Offsets below 0 mean never.
type plan struct {
	cutAt, truncateAt, perSecond int64
	expire, lie, unavailable     bool
}

// takeFaults uses up one read of the faults that apply to a disk.
func (s *Simulator) takeFaults(f *leaseFile) plan {
	p := plan{cutAt: -1, truncateAt: -1}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, one := range s.faults {
		if one.VM != f.disk.machine.name || one.Disk != f.disk.index {
			continue
		}
		p.add(one, f.stream.size)
		if one.Reads > 0 {
			one.Reads--
		}
	}
	s.faults = slices.DeleteFunc(s.faults, func(one *Fault) bool { return one.Reads == 0 })
	return p
}

func (p *plan) add(f *Fault, size int64) {
	at := f.AfterBytes
	if f.AtPercent > 0 {
		at = int64(float64(size) * f.AtPercent / 100)
	}
	switch f.Kind {
	case FaultCut:
		p.cutAt = at
	case FaultExpire:
		p.cutAt, p.expire = at, true
	case FaultTruncate:
		p.truncateAt = at
	case FaultSlow:
		p.perSecond = f.BytesPerSecond
	case FaultDigest:
		p.lie = true
	case FaultUnavailable:
		p.unavailable = true
	default:
		panic(fmt.Sprintf("fault kind %q passed Inject", f.Kind))
	}
}
