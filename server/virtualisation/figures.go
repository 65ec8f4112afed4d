package virtualisation

import (
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// describeStats describes figures, with rates since the samples before.
func (s *Service) describeStats(f hypervisor.DomainFigures, groups hypervisor.StatsGroup, now time.Time) *hypervisorv1.DomainStats {
	m := &hypervisorv1.DomainStats{Uuid: f.UUID, Name: f.Name, State: stateOf(f.State), Time: timestamppb.New(now)}
	if groups&hypervisor.StatsCPU != 0 {
		m.Cpu = describeCPU(f.CPU, s.since(f, hypervisor.StatsCPU, now))
	}
	if groups&hypervisor.StatsMemory != 0 {
		m.Memory = describeMemory(f.Memory)
	}
	if groups&hypervisor.StatsDisks != 0 {
		m.Disks = describeDisks(f.Disks, s.since(f, hypervisor.StatsDisks, now))
	}
	if groups&hypervisor.StatsInterfaces != 0 {
		m.Interfaces = describeInterfaces(f.Interfaces, s.since(f, hypervisor.StatsInterfaces, now))
	}
	return m
}

// past is what figures are compared with; without a sample before interval is 0.
type past struct {
	hypervisor.DomainFigures
	interval time.Duration
}

func (s *Service) since(f hypervisor.DomainFigures, group hypervisor.StatsGroup, now time.Time) past {
	old, ok := s.sampler.before(f, group, now)
	if !ok {
		return past{}
	}
	return past{old.f, now.Sub(old.at)}
}

func (p past) duration() *durationpb.Duration {
	if p.interval == 0 {
		return nil
	}
	return durationpb.New(p.interval)
}

// rate returns how much a counter grew in each second. One that is smaller than before was set back.
func (p past) rate(before, now uint64) float64 {
	if p.interval == 0 || now < before {
		return 0
	}
	return float64(now-before) / p.interval.Seconds()
}

// share returns how much of the time of n processors was used, in percent.
func (p past) share(before, now time.Duration, n uint32) float64 {
	if p.interval == 0 || n == 0 || now < before {
		return 0
	}
	return 100 * float64(now-before) / (float64(p.interval) * float64(n))
}

func describeCPU(f hypervisor.CPUFigures, p past) *hypervisorv1.DomainCpuStats {
	m := &hypervisorv1.DomainCpuStats{
		Vcpus: f.VCPUs, CpuTimeNs: uint64(f.Total), UserTimeNs: uint64(f.User), SystemTimeNs: uint64(f.System), Interval: p.duration(),
		UsagePercent: p.share(p.CPU.Total, f.Total, f.VCPUs),
	}
	for i, t := range f.Each {
		v := &hypervisorv1.VcpuStats{Number: uint32(i), TimeNs: uint64(t)}
		if i < len(p.CPU.Each) {
			v.UsagePercent = p.share(p.CPU.Each[i], t, 1)
		}
		m.Each = append(m.Each, v)
	}
	return m
}

func describeMemory(f hypervisor.MemoryFigures) *hypervisorv1.DomainMemoryStats {
	m := &hypervisorv1.DomainMemoryStats{
		TotalKib: f.Total, UsedKib: min(f.Resident, f.Total), SwapInKib: f.SwapIn, SwapOutKib: f.SwapOut, ResidentKib: f.Resident, GuestTells: f.GuestTells,
	}
	if f.GuestTells {
		m.UsedKib = f.Total - min(f.Usable, f.Total)
	}
	m.AvailableKib = f.Total - m.GetUsedKib()
	if f.Total > 0 {
		m.UsagePercent = 100 * float64(m.GetUsedKib()) / float64(f.Total)
	}
	return m
}

func describeDisks(all []hypervisor.DiskFigures, p past) *hypervisorv1.DomainDisksStats {
	before := make(map[string]hypervisor.DiskFigures, len(p.Disks))
	for _, d := range p.Disks {
		before[d.Device+"\x00"+d.Path] = d
	}
	m := &hypervisorv1.DomainDisksStats{Interval: p.duration()}
	for _, d := range all {
		one := &hypervisorv1.DomainDiskStats{
			Device: d.Device, Path: d.Path, ReadBytes: d.ReadBytes, ReadRequests: d.ReadRequests, WriteBytes: d.WriteBytes, WriteRequests: d.WriteRequests,
			Capacity: d.Capacity, Allocation: d.Allocation,
		}
		if d.Errors != nil {
			one.CountsErrors, one.Errors = true, *d.Errors
		}
		if old, ok := before[d.Device+"\x00"+d.Path]; ok {
			one.ReadBytesPerSecond, one.ReadRequestsPerSecond = p.rate(old.ReadBytes, d.ReadBytes), p.rate(old.ReadRequests, d.ReadRequests)
			one.WriteBytesPerSecond, one.WriteRequestsPerSecond = p.rate(old.WriteBytes, d.WriteBytes), p.rate(old.WriteRequests, d.WriteRequests)
		}
		m.Each = append(m.Each, one)
	}
	return m
}

func describeInterfaces(all []hypervisor.InterfaceFigures, p past) *hypervisorv1.DomainInterfacesStats {
	before := make(map[string]hypervisor.InterfaceFigures, len(p.Interfaces))
	for _, i := range p.Interfaces {
		before[i.Name] = i
	}
	m := &hypervisorv1.DomainInterfacesStats{Interval: p.duration()}
	for _, i := range all {
		one := &hypervisorv1.DomainInterfaceStats{
			Name: i.Name, RxBytes: i.RxBytes, RxPackets: i.RxPackets, RxErrors: i.RxErrors, RxDropped: i.RxDropped, TxBytes: i.TxBytes,
			TxPackets: i.TxPackets, TxErrors: i.TxErrors, TxDropped: i.TxDropped,
		}
		if old, ok := before[i.Name]; ok {
			one.RxBytesPerSecond, one.RxPacketsPerSecond = p.rate(old.RxBytes, i.RxBytes), p.rate(old.RxPackets, i.RxPackets)
			one.TxBytesPerSecond, one.TxPacketsPerSecond = p.rate(old.TxBytes, i.TxBytes), p.rate(old.TxPackets, i.TxPackets)
		}
		m.Each = append(m.Each, one)
	}
	return m
}

func describeHost(f hypervisor.HostFigures, now time.Time, old hostSample, known bool) *hypervisorv1.HostStats {
	m := &hypervisorv1.HostStats{
		Time: timestamppb.New(now), Cpus: f.CPUs, UserTimeNs: uint64(f.User), KernelTimeNs: uint64(f.Kernel), IdleTimeNs: uint64(f.Idle),
		IowaitTimeNs: uint64(f.IOWait), MemoryTotalKib: f.MemoryTotal, MemoryFreeKib: f.MemoryFree, MemoryAvailableKib: f.MemoryAvailable,
	}
	if !known {
		return m
	}
	m.Interval = durationpb.New(now.Sub(old.at))
	busy := f.User + f.Kernel - old.f.User - old.f.Kernel
	// The clock that the host counts this time with is coarse, so the parts are compared with their sum.
	all := busy + f.Idle + f.IOWait - old.f.Idle - old.f.IOWait
	if busy > 0 && all > 0 {
		m.UsagePercent = 100 * float64(busy) / float64(all)
	}
	return m
}
