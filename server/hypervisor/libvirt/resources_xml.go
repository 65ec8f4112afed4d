package libvirt

import (
	"fmt"
	"math"
	"os"

	"libvirt.org/go/libvirtxml"

	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// memorySlots is how often a machine's memory can grow while it is alive.
const memorySlots = 16

// The weight of a machine of priority 0, and the bounds, in both versions of the kernel's cgroups.
const (
	normalShares, leastShares, mostShares    = 1024, 2, 262144
	unifiedShares, leastUnified, mostUnified = 100, 1, 10000
)

// addHeadroom makes room for processors and memory that are added to the live machine.
func addHeadroom(d *libvirtxml.Domain, s hypervisor.Spec) {
	if s.MaxCPUs > s.CPUs {
		d.VCPU.Current, d.VCPU.Value = uint(s.CPUs), uint(s.MaxCPUs)
	}
	if s.MaxMemoryBytes > s.MemoryBytes {
		d.MaximumMemory = &libvirtxml.DomainMaxMemory{Value: uint(s.MaxMemoryBytes >> 10), Unit: "KiB", Slots: memorySlots}
		// libvirt plugs memory only into a board that has a NUMA node.
		d.CPU.Numa = &libvirtxml.DomainNuma{Cell: []libvirtxml.DomainCell{{
			ID: new(uint(0)), CPUs: fmt.Sprintf("0-%d", d.VCPU.Value-1), Memory: d.Memory.Value, Unit: d.Memory.Unit,
		}}}
	}
}

// buildModule is memory that is plugged in.
func buildModule(bytes uint64) libvirtxml.DomainMemorydev {
	return libvirtxml.DomainMemorydev{Model: "dimm", Target: &libvirtxml.DomainMemorydevTarget{
		Size: &libvirtxml.DomainMemorydevTargetSize{Value: uint(bytes >> 10), Unit: "KiB"},
		Node: &libvirtxml.DomainMemorydevTargetNode{},
	}}
}

// parseSizes reads how large a machine is and can become. The memory of a live machine's definition includes what was plugged in.
func parseSizes(d *libvirtxml.Domain, s *hypervisor.Spec) {
	if d.VCPU != nil {
		s.CPUs, s.MaxCPUs = uint32(d.VCPU.Value), uint32(d.VCPU.Value)
		if d.VCPU.Current > 0 {
			s.CPUs = uint32(d.VCPU.Current)
		}
	}
	if d.Memory != nil {
		s.MemoryBytes = uint64(d.Memory.Value) * memoryUnit(d.Memory.Unit)
		s.MaxMemoryBytes = s.MemoryBytes
	}
	if d.MaximumMemory != nil {
		s.MaxMemoryBytes = uint64(d.MaximumMemory.Value) * memoryUnit(d.MaximumMemory.Unit)
	}
}

// buildTune is what the scheduler is told, or nil.
func buildTune(s hypervisor.Spec, unified bool) *libvirtxml.DomainCPUTune {
	var tune *libvirtxml.DomainCPUTune
	if s.CPUMillis != 0 {
		tune = buildQuota(s.CPUMillis)
	}
	if s.CPUPriority != 0 {
		if tune == nil {
			tune = new(libvirtxml.DomainCPUTune)
		}
		tune.Shares = &libvirtxml.DomainCPUTuneShares{Value: uint(shares(s.CPUPriority, unified))}
	}
	return tune
}

// shares is a priority's weight. As the kernel does for nice values, each step is a quarter more or less.
func shares(priority int32, unified bool) uint64 {
	normal, least, most := normalShares, leastShares, mostShares
	if unified {
		normal, least, most = unifiedShares, leastUnified, mostUnified
	}
	weight := math.Round(float64(normal) * math.Pow(1.25, -float64(priority)))
	return uint64(min(max(weight, float64(least)), float64(most)))
}

// hasUnifiedCgroups says whether the host's cgroups are of version 2 only.
func hasUnifiedCgroups() bool {
	_, err := os.Stat("/sys/fs/cgroup/cgroup.controllers")
	return err == nil
}
