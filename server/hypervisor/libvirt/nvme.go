package libvirt

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"libvirt.org/go/libvirtxml"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// A disk on the NVMe bus is one on the virtio bus to libvirt, whose device in QEMU is replaced (<qemu:override>, libvirt's drvqemu.html). So libvirt gives the
// file to QEMU's user, keeps other machines off it, copies, redirects, merges and unplugs the disk as any other. Its own bus='nvme', of libvirt 11.5 and later,
// makes the disks of a machine namespaces of one controller, which come and go only with it.
const (
	// nvmeAlias begins the names of disks on the NVMe bus. It is not diskAlias: one that comes later could get the name, and the override, of one that has gone.
	nvmeAlias = "ua-nvme"
	// nvmeDevice is QEMU's name of an NVMe controller with one namespace.
	nvmeDevice = "nvme"
	// overrideSince is the first libvirt that knows <qemu:override>, as virGetVersion counts: 8.2.0.
	overrideSince = 8_002_000
)

// lackForNVMe says what libvirt lacks for disks on the NVMe bus, by its version; empty = nothing.
func lackForNVMe(libvirt uint64) string {
	if libvirt >= overrideSince {
		return ""
	}
	return fmt.Sprintf("it needs libvirt %s, and this is %s", versionText(overrideSince), versionText(libvirt))
}

// checkNVMe reports that libvirt cannot give a machine its NVMe disks.
func (d *Driver) checkNVMe(ctx context.Context, s hypervisor.Spec) error {
	if !hasBus(s, hypervisor.BusNVMe) {
		return nil
	}
	var h hypervisor.Host
	err := d.queries.do(ctx, func(c *conn) error {
		lib, err := c.ConnectGetLibVersion()
		h.NoNVMe = lackForNVMe(lib)
		return classify(err, "ask for libvirt's version")
	})
	if err == nil {
		err = fault.Wrap(h.CheckDisks(s.Disks), "machine %q", s.Name)
	}
	return err
}

// nameNVMe tells a disk apart for libvirt and for guests, whose controllers must have a serial number (20 bytes at most). It is the same at each start as long
// as the disk keeps its place.
func nameNVMe(d *libvirtxml.DomainDisk, machine string, place int) {
	d.Alias.Name = nvmeAlias + strconv.Itoa(place)
	d.Target.Bus = hypervisor.BusVirtio.String()
	d.Serial = machine[:8] + "-" + strconv.Itoa(place)
}

// buildNVMe replaces the devices of the disks that are on the NVMe bus.
func buildNVMe(s hypervisor.Spec) *libvirtxml.DomainQEMUOverride {
	var o libvirtxml.DomainQEMUOverride
	for i, d := range s.Disks {
		if d.Bus == hypervisor.BusNVMe {
			o.Devices = append(o.Devices, libvirtxml.DomainQEMUOverrideDevice{
				Alias: nvmeAlias + strconv.Itoa(i),
				Frontend: libvirtxml.DomainQEMUOverrideFrontend{
					Properties: []libvirtxml.DomainQEMUOverrideProperty{{Name: "driver", Type: "string", Value: nvmeDevice}},
				},
			})
		}
	}
	if o.Devices == nil {
		return nil
	}
	return &o
}

// busOf is the bus on which the guest of a domain sees a disk.
func busOf(domain *libvirtxml.Domain, d libvirtxml.DomainDisk) hypervisor.DiskBus {
	if domain.QEMUOverride != nil && d.Alias != nil {
		for _, device := range domain.QEMUOverride.Devices {
			if device.Alias == d.Alias.Name && slices.ContainsFunc(device.Frontend.Properties, func(p libvirtxml.DomainQEMUOverrideProperty) bool {
				return p.Name == "driver" && p.Value == nvmeDevice
			}) {
				return hypervisor.BusNVMe
			}
		}
	}
	return parseBus(d.Target.Bus)
}
