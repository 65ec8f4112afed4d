package libvirt

import (
	"context"
	"fmt"

	golibvirt "github.com/digitalocean/go-libvirt"

	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// Host implements hypervisor.Driver.
func (d *Driver) Host(ctx context.Context) (hypervisor.Host, error) {
	accel, err := d.acceleration.get(ctx, d.askAcceleration)
	if err != nil {
		return hypervisor.Host{}, err
	}
	limit, err := d.cpuLimit.get(ctx, d.askCPULimit)
	if err != nil {
		return hypervisor.Host{}, err
	}
	h := hypervisor.Host{Arch: hostArch(), Accelerated: accel.virtType == virtKVM, Why: accel.why, LimitsCPU: limit.enforced}
	if !limit.enforced {
		h.Why += "; CPU limits are not enforced, nor are priorities: " + limit.why
	}
	err = d.queries.do(ctx, func(c *conn) error { return classify(describe(c, &h), "describe the host") })
	return h, err
}

func describe(c *conn, h *hypervisor.Host) (err error) {
	if h.Hostname, err = c.ConnectGetHostname(); err != nil {
		return err
	}
	_, memoryKiB, cpus, _, _, _, _, _, err := c.NodeGetInfo()
	if err != nil {
		return err
	}
	h.CPUs, h.MemoryBytes = uint32(cpus), memoryKiB<<10
	if h.FreeBytes, err = freeMemory(c); err != nil {
		return err
	}
	h.FreeBytes = min(h.FreeBytes, h.MemoryBytes)
	lib, err := c.ConnectGetLibVersion()
	if err != nil {
		return err
	}
	h.NoNVMe = lackForNVMe(lib)
	qemu, err := c.ConnectGetVersion()
	h.Version = fmt.Sprintf("libvirt %s, QEMU %s", versionText(lib), versionText(qemu))
	return err
}

// freeMemory is what guests can get: what nobody uses, and what the kernel uses only while nobody else wants it.
func freeMemory(c *conn) (uint64, error) {
	const allNodes = -1
	_, count, err := c.NodeGetMemoryStats(0, allNodes, 0)
	if err != nil {
		return 0, err
	}
	stats, _, err := c.NodeGetMemoryStats(count, allNodes, 0)
	return sumFree(stats), err
}

func sumFree(stats []golibvirt.NodeGetMemoryStats) (bytes uint64) {
	for _, s := range stats {
		switch s.Field {
		case "free", "buffers", "cached": // in KiB
			bytes += s.Value << 10
		}
	}
	return bytes
}

// versionText splits libvirt's numbers: a million for each major version, a thousand for each minor.
func versionText(v uint64) string {
	return fmt.Sprintf("%d.%d.%d", v/1_000_000, v/1000%1000, v%1000)
}
