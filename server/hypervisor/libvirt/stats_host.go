package libvirt

import (
	"context"
	"time"

	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// wholeHost is how libvirt is asked for all processors or memory nodes together (VIR_NODE_CPU_STATS_ALL_CPUS, VIR_NODE_MEMORY_STATS_ALL_CELLS).
const wholeHost = -1

// MeasureHost implements hypervisor.Meter.
func (d *Driver) MeasureHost(ctx context.Context) (f hypervisor.HostFigures, err error) {
	err = d.queries.do(ctx, func(c *conn) error {
		_, total, cpus, _, _, _, _, _, err := c.NodeGetInfo() //nolint:dogsled // libvirt's answer is that long
		if err != nil {
			return classify(err, "describe the host")
		}
		f.CPUs, f.MemoryTotal = uint32(cpus), total
		if err := readHostCPU(c, &f); err != nil {
			return err
		}
		return readHostMemory(c, &f)
	})
	return f, err
}

func readHostCPU(c *conn, f *hypervisor.HostFigures) error {
	_, n, err := c.NodeGetCPUStats(wholeHost, 0, 0) // first how many there are
	if err != nil {
		return classify(err, "measure the host's processors")
	}
	params, _, err := c.NodeGetCPUStats(wholeHost, n, 0)
	if err != nil {
		return classify(err, "measure the host's processors")
	}
	for _, p := range params {
		switch t := time.Duration(p.Value); p.Field {
		case "user":
			f.User = t
		case "kernel":
			f.Kernel = t
		case "idle":
			f.Idle = t
		case "iowait":
			f.IOWait = t
		}
	}
	return nil
}

func readHostMemory(c *conn, f *hypervisor.HostFigures) error {
	_, n, err := c.NodeGetMemoryStats(0, wholeHost, 0)
	if err != nil {
		return classify(err, "measure the host's memory")
	}
	params, _, err := c.NodeGetMemoryStats(n, wholeHost, 0)
	if err != nil {
		return classify(err, "measure the host's memory")
	}
	for _, p := range params {
		switch p.Field {
		case "total":
			f.MemoryTotal = p.Value
		case "free":
			f.MemoryFree = p.Value
			f.MemoryAvailable += p.Value
		case "buffers", "cached":
			f.MemoryAvailable += p.Value
		}
	}
	return nil
}
