package legacy

import (
	"context"
	"net/http"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/server/intercept"
)

// settling is how long a first measurement takes: these paths have no way to say that there is no rate yet.
const settling = 500 * time.Millisecond

type statsView struct {
	Name      string     `json:"name"`
	State     string     `json:"state"`
	CPU       cpuView    `json:"cpu"`
	Memory    memoryView `json:"memory"`
	Disks     []ioView   `json:"disks"`
	Networks  []netView  `json:"networks"`
	Timestamp time.Time  `json:"timestamp"`
}

type cpuView struct {
	VCPUs        uint32  `json:"vcpus"`
	CPUTime      uint64  `json:"cpu_time_ns"`
	UserTime     uint64  `json:"user_time_ns"`
	SystemTime   uint64  `json:"system_time_ns"`
	UsagePercent float64 `json:"usage_percent"`
}

type memoryView struct {
	Total        uint64  `json:"total_kb"`
	Used         uint64  `json:"used_kb"`
	Available    uint64  `json:"available_kb"`
	UsagePercent float64 `json:"usage_percent"`
	SwapIn       uint64  `json:"swap_in_kb"`
	SwapOut      uint64  `json:"swap_out_kb"`
}

// ioView has the rates that HyperSDK has not. Errors is null if they are not counted.
type ioView struct {
	Device        string  `json:"device"`
	ReadBytes     uint64  `json:"read_bytes"`
	ReadRequests  uint64  `json:"read_requests"`
	WriteBytes    uint64  `json:"write_bytes"`
	WriteRequests uint64  `json:"write_requests"`
	Errors        *uint64 `json:"errors"`

	ReadBytesPerSecond     float64 `json:"read_bytes_per_second"`
	ReadRequestsPerSecond  float64 `json:"read_requests_per_second"`
	WriteBytesPerSecond    float64 `json:"write_bytes_per_second"`
	WriteRequestsPerSecond float64 `json:"write_requests_per_second"`
}

type netView struct {
	Interface string `json:"interface"`
	RxBytes   uint64 `json:"rx_bytes"`
	RxPackets uint64 `json:"rx_packets"`
	RxErrors  uint64 `json:"rx_errors"`
	RxDropped uint64 `json:"rx_dropped"`
	TxBytes   uint64 `json:"tx_bytes"`
	TxPackets uint64 `json:"tx_packets"`
	TxErrors  uint64 `json:"tx_errors"`
	TxDropped uint64 `json:"tx_dropped"`

	RxBytesPerSecond float64 `json:"rx_bytes_per_second"`
	TxBytesPerSecond float64 `json:"tx_bytes_per_second"`
}

func cpuViewOf(c *hypervisorv1.DomainCpuStats) cpuView {
	return cpuView{c.GetVcpus(), c.GetCpuTimeNs(), c.GetUserTimeNs(), c.GetSystemTimeNs(), c.GetUsagePercent()}
}

func memoryViewOf(m *hypervisorv1.DomainMemoryStats) memoryView {
	return memoryView{m.GetTotalKib(), m.GetUsedKib(), m.GetAvailableKib(), m.GetUsagePercent(), m.GetSwapInKib(), m.GetSwapOutKib()}
}

func ioViewsOf(all *hypervisorv1.DomainDisksStats) []ioView {
	views := []ioView{}
	for _, d := range all.GetEach() {
		v := ioView{
			Device: d.GetDevice(), ReadBytes: d.GetReadBytes(), ReadRequests: d.GetReadRequests(), WriteBytes: d.GetWriteBytes(),
			WriteRequests: d.GetWriteRequests(), ReadBytesPerSecond: d.GetReadBytesPerSecond(), ReadRequestsPerSecond: d.GetReadRequestsPerSecond(),
			WriteBytesPerSecond: d.GetWriteBytesPerSecond(), WriteRequestsPerSecond: d.GetWriteRequestsPerSecond(),
		}
		if d.GetCountsErrors() {
			errors := d.GetErrors()
			v.Errors = &errors
		}
		views = append(views, v)
	}
	return views
}

func netViewsOf(all *hypervisorv1.DomainInterfacesStats) []netView {
	views := []netView{}
	for _, i := range all.GetEach() {
		views = append(views, netView{
			Interface: i.GetName(), RxBytes: i.GetRxBytes(), RxPackets: i.GetRxPackets(), RxErrors: i.GetRxErrors(), RxDropped: i.GetRxDropped(),
			TxBytes: i.GetTxBytes(), TxPackets: i.GetTxPackets(), TxErrors: i.GetTxErrors(), TxDropped: i.GetTxDropped(),
			RxBytesPerSecond: i.GetRxBytesPerSecond(), TxBytesPerSecond: i.GetTxBytesPerSecond(),
		})
	}
	return views
}

func statsViewOf(s *hypervisorv1.DomainStats) statsView {
	return statsView{
		Name: s.GetName(), State: domainState(s.GetState()), CPU: cpuViewOf(s.GetCpu()), Memory: memoryViewOf(s.GetMemory()), Disks: ioViewsOf(s.GetDisks()),
		Networks: netViewsOf(s.GetInterfaces()), Timestamp: s.GetTime().AsTime(),
	}
}

// measure returns the figures of one domain; no group = all.
func (h *host) measure(ctx context.Context, name string, groups ...hypervisorv1.DomainStatsGroup) (*hypervisorv1.DomainStats, error) {
	res, err := h.virt.GetDomainStats(ctx, &hypervisorv1.GetDomainStatsRequest{Domain: name, Groups: groups, Wait: durationpb.New(settling)})
	return res.GetStats(), err
}

func (h *host) stats(ctx context.Context, q query) (any, error) {
	s, err := h.measure(ctx, q["name"])
	return statsViewOf(s), err
}

func (h *host) allStats(ctx context.Context, _ query) (any, error) {
	res, err := h.virt.ListDomainStats(ctx, &hypervisorv1.ListDomainStatsRequest{Wait: durationpb.New(settling)})
	all := listed("domains", res.GetStats(), statsViewOf)
	all["timestamp"] = now()
	return all, err
}

// part is the answer with one group of a domain's figures.
func part(s *hypervisorv1.DomainStats, err error, name string, value any) (any, error) {
	return map[string]any{"name": s.GetName(), name: value, "timestamp": s.GetTime().AsTime()}, err
}

func (h *host) cpuStats(ctx context.Context, q query) (any, error) {
	s, err := h.measure(ctx, q["name"], hypervisorv1.DomainStatsGroup_DOMAIN_STATS_GROUP_CPU)
	return part(s, err, "cpu_stats", cpuViewOf(s.GetCpu()))
}

func (h *host) memoryStats(ctx context.Context, q query) (any, error) {
	s, err := h.measure(ctx, q["name"], hypervisorv1.DomainStatsGroup_DOMAIN_STATS_GROUP_MEMORY)
	return part(s, err, "memory", memoryViewOf(s.GetMemory()))
}

func (h *host) diskStats(ctx context.Context, q query) (any, error) {
	s, err := h.measure(ctx, q["name"], hypervisorv1.DomainStatsGroup_DOMAIN_STATS_GROUP_DISKS)
	return part(s, err, "disks", ioViewsOf(s.GetDisks()))
}

func (h *host) networkStats(ctx context.Context, q query) (any, error) {
	s, err := h.measure(ctx, q["name"], hypervisorv1.DomainStatsGroup_DOMAIN_STATS_GROUP_INTERFACES)
	return part(s, err, "networks", netViewsOf(s.GetInterfaces()))
}

func (h *host) hostStats(ctx context.Context, _ query) (any, error) {
	res, err := h.virt.GetHostStats(ctx, &hypervisorv1.GetHostStatsRequest{Wait: durationpb.New(settling)})
	s := res.GetStats()
	return map[string]any{
		"cpus": s.GetCpus(), "usage_percent": s.GetUsagePercent(), "total_kb": s.GetMemoryTotalKib(), "free_kb": s.GetMemoryFreeKib(),
		"available_kb": s.GetMemoryAvailableKib(), "timestamp": s.GetTime().AsTime(),
	}, err
}

// raw makes a handler of a function that writes its answer itself, unless it returns an error.
func raw(h func(http.ResponseWriter, *http.Request) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := h(w, authorized(r)); err != nil {
			s := status.Convert(intercept.Status(err))
			write(w, runtime.HTTPStatusFromCode(s.Code()), map[string]any{"error": s.Message(), "timestamp": now()})
		}
	})
}
