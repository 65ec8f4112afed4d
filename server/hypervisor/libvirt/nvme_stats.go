package libvirt

import (
	"encoding/json"
	"strings"

	golibvirt "github.com/digitalocean/go-libvirt"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// diskCounters are what QEMU's query-blockstats says of one device (BlockDeviceStats in its qapi/block-core.json).
type diskCounters struct {
	ReadBytes     uint64 `json:"rd_bytes"`
	ReadRequests  uint64 `json:"rd_operations"`
	WriteBytes    uint64 `json:"wr_bytes"`
	WriteRequests uint64 `json:"wr_operations"`
}

// countNVMe adds the counters of disks on the NVMe bus, which libvirt looks for below the device of a virtio disk. A machine that has ended has none.
func countNVMe(c *conn, r golibvirt.DomainStatsRecord, f *hypervisor.DomainFigures) error {
	if r.Dom.ID < 0 || !lacksCounters(figures(r.Params)) {
		return nil
	}
	l, err := readLive(c, f.UUID)
	if err == nil && l.xml.QEMUOverride == nil {
		return nil // something of a machine that this driver did not make
	}
	var counters map[string]diskCounters
	if err == nil {
		counters, err = askCounters(c, l.dom)
	}
	if fault.Is(err, fault.NotFound) || fault.Is(err, fault.FailedPrecondition) {
		return nil
	}
	if err != nil {
		return fault.Wrap(err, "domain %q: count what its NVMe disks do", f.Name)
	}
	for _, disk := range l.disks() {
		if busOf(l.xml, disk) != hypervisor.BusNVMe {
			continue
		}
		for i := range f.Disks {
			if n, counted := counters[disk.Alias.Name]; counted && f.Disks[i].Device == disk.Target.Dev {
				f.Disks[i].ReadBytes, f.Disks[i].ReadRequests = n.ReadBytes, n.ReadRequests
				f.Disks[i].WriteBytes, f.Disks[i].WriteRequests = n.WriteBytes, n.WriteRequests
			}
		}
	}
	return nil
}

func lacksCounters(p parameters) bool {
	for at := range p.each("block") {
		if _, counted := p[at+"rd.reqs"]; !counted && p.text(at+"path") != "" {
			return true
		}
	}
	return false
}

// askCounters asks QEMU for the counters of its devices, by their aliases.
func askCounters(c *conn, dom golibvirt.Domain) (map[string]diskCounters, error) {
	text, err := c.QEMUDomainMonitorCommand(dom, `{"execute":"query-blockstats"}`, 0)
	if err != nil {
		return nil, classify(err, "ask QEMU")
	}
	return parseCounters(text)
}

func parseCounters(text string) (map[string]diskCounters, error) {
	var answer struct {
		Return []struct {
			Device string       `json:"qdev"`
			Stats  diskCounters `json:"stats"`
		} `json:"return"`
	}
	if err := json.Unmarshal([]byte(text), &answer); err != nil {
		return nil, fault.As(fault.Internal, err, "understand QEMU's counters")
	}
	all := make(map[string]diskCounters, len(answer.Return))
	for _, d := range answer.Return {
		all[strings.TrimPrefix(d.Device, "/machine/peripheral/")] = d.Stats
	}
	return all, nil
}
