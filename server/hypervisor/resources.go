package hypervisor

import "github.com/hyperplane-project/hyperplane/internal/fault"

// Resources are what a machine has of the host. The fields are those of Spec.
type Resources struct {
	CPUs, CPUMillis uint32
	CPUPriority     int32
	MemoryBytes     uint64
}

// Resources returns what the machine has of the host.
func (s Spec) Resources() Resources {
	return Resources{CPUs: s.CPUs, CPUMillis: s.CPUMillis, CPUPriority: s.CPUPriority, MemoryBytes: s.MemoryBytes}
}

// With returns the Spec with other resources.
func (s Spec) With(r Resources) Spec {
	s.CPUs, s.CPUMillis, s.CPUPriority, s.MemoryBytes = r.CPUs, r.CPUMillis, r.CPUPriority, r.MemoryBytes
	return s
}

// CheckAdjust reports what keeps a live machine, which has s, from being given r, so that every driver refuses the same: processors and memory only
// grow, because guests give neither back reliably; up to the most that the machine was started with; memory by multiples of MemoryStep.
// InvalidArgument if no machine can have r, otherwise FailedPrecondition.
func (s Spec) CheckAdjust(r Resources) error {
	if err := checkSize(s.With(r)); err != nil {
		return fault.As(fault.InvalidArgument, err, "machine %q", s.Name)
	}
	switch {
	case r.CPUs < s.CPUs || r.MemoryBytes < s.MemoryBytes:
		return s.needsStop("processors and memory only grow while it is alive")
	case r.CPUs > max(s.MaxCPUs, s.CPUs):
		return s.needsStop("%d processors are more than the %d it was started for", r.CPUs, max(s.MaxCPUs, s.CPUs))
	case r.MemoryBytes > max(s.MaxMemoryBytes, s.MemoryBytes):
		return s.needsStop("%d MiB of memory are more than the %d MiB it was started for", r.MemoryBytes>>20, max(s.MaxMemoryBytes, s.MemoryBytes)>>20)
	case (r.MemoryBytes-s.MemoryBytes)%MemoryStep != 0:
		return s.needsStop("its memory grows by multiples of %d MiB while it is alive", MemoryStep>>20)
	}
	return nil
}

func (s Spec) needsStop(format string, args ...any) error {
	return fault.Wrap(fault.New(fault.FailedPrecondition, format+"; stop it first", args...), "machine %q", s.Name)
}
