package fake

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// What a guest does in each second that it is in its present state.
const (
	cpuShare      = 4 // one part in four of each of its processors
	bytesRead     = 4 << 10
	bytesWritten  = 8 << 10
	bytesReceived = 1 << 10
	bytesSent     = 2 << 10
)

// MeasureDomains implements hypervisor.Meter: guests use a quarter of their processors, read and write a little, and half their memory.
func (d *Driver) MeasureDomains(ctx context.Context, uuid string, groups hypervisor.StatsGroup) (all []hypervisor.DomainFigures, err error) {
	err = d.do(ctx, "MeasureDomains", func(h *Host) error {
		if uuid != "" && h.machines[uuid] == nil {
			return unknownMachine(uuid)
		}
		for _, m := range h.machines {
			if m.spec.UUID == uuid || uuid == "" && m.state.Alive() {
				all = append(all, h.measure(m, groups))
			}
		}
		return nil
	})
	slices.SortFunc(all, func(a, b hypervisor.DomainFigures) int { return strings.Compare(a.Name, b.Name) })
	return all, err
}

func (h *Host) measure(m *machine, groups hypervisor.StatsGroup) hypervisor.DomainFigures {
	f := hypervisor.DomainFigures{UUID: m.spec.UUID, Name: m.spec.Name, ID: h.domain(m).id, State: m.state}
	ran := time.Duration(0)
	if m.state.Alive() {
		ran = h.opts.Clock.Now().Sub(m.since)
	}
	seconds := uint64(ran / time.Second)
	if groups&hypervisor.StatsCPU != 0 {
		each := ran / cpuShare
		total := each * time.Duration(m.spec.CPUs)
		f.CPU = hypervisor.CPUFigures{
			VCPUs: m.spec.CPUs, Total: total, User: total / 2, System: total / 2, Each: slices.Repeat([]time.Duration{each}, int(m.spec.CPUs)),
		}
	}
	if groups&hypervisor.StatsMemory != 0 {
		total := m.spec.MemoryBytes >> 10
		f.Memory = hypervisor.MemoryFigures{Total: total}
		if m.state.Alive() {
			f.Memory = hypervisor.MemoryFigures{Total: total, Resident: total / 2, GuestTells: true, Unused: total / 2, Usable: total / 2}
		}
	}
	if groups&hypervisor.StatsDisks != 0 {
		for _, disk := range m.spec.Disks {
			f.Disks = append(f.Disks, hypervisor.DiskFigures{
				Device: disk.File, Path: disk.File, ReadBytes: seconds * bytesRead, ReadRequests: seconds, WriteBytes: seconds * bytesWritten, WriteRequests: seconds,
			})
		}
	}
	if groups&hypervisor.StatsInterfaces != 0 && m.state.Alive() {
		for _, nic := range m.spec.NICs {
			f.Interfaces = append(f.Interfaces, hypervisor.InterfaceFigures{
				Name: nic.MAC, RxBytes: seconds * bytesReceived, RxPackets: seconds, TxBytes: seconds * bytesSent, TxPackets: seconds,
			})
		}
	}
	return f
}

// MeasureHost implements hypervisor.Meter: half of the processors idle, since the beginning of time.
func (d *Driver) MeasureHost(ctx context.Context) (f hypervisor.HostFigures, err error) {
	host, err := d.Host(ctx)
	if err != nil {
		return f, err
	}
	ran := time.Duration(d.host.opts.Clock.Now().UnixNano()) / 2
	return hypervisor.HostFigures{
		CPUs: host.CPUs, User: ran / 2, Kernel: ran / 2, Idle: ran, MemoryTotal: host.MemoryBytes >> 10, MemoryFree: host.FreeBytes >> 10,
		MemoryAvailable: host.FreeBytes >> 10,
	}, nil
}
