package libvirt

import (
	"context"

	golibvirt "github.com/digitalocean/go-libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// DescribeDefinition implements hypervisor.Appliances.
func (d *Driver) DescribeDefinition(text []byte) (hypervisor.Appliance, error) {
	x, err := parseDefinition(text)
	if err != nil {
		return hypervisor.Appliance{}, err
	}
	spec := parseDomain(x)
	a := hypervisor.Appliance{UUID: x.UUID, Name: x.Name, CPUs: spec.CPUs, MemoryBytes: spec.MemoryBytes}
	if x.OS != nil && x.OS.NVRam != nil {
		a.Variables = x.OS.NVRam.NVRam
		if s := x.OS.NVRam.Source; s != nil && s.File != nil {
			a.Variables = s.File.File
		}
	}
	if x.Devices == nil {
		return a, nil
	}
	for i := range x.Devices.Disks {
		disk := &x.Devices.Disks[i]
		target := deviceName(disk)
		switch disk.Device {
		case "", "disk":
			a.Disks = append(a.Disks, hypervisor.ApplianceDisk{
				Target: target, File: fileOf(*disk), Source: sourceKind(disk.Source), Format: formatOf(*disk), ReadOnly: disk.ReadOnly != nil,
			})
		case "cdrom":
			a.Drives = append(a.Drives, hypervisor.Drive{Device: target, File: fileOf(*disk)})
		}
	}
	for _, nic := range x.Devices.Interfaces {
		mac := ""
		if nic.MAC != nil {
			mac = nic.MAC.Address
		}
		a.MACs = append(a.MACs, mac)
	}
	return a, nil
}

func parseDefinition(text []byte) (*libvirtxml.Domain, error) {
	x := new(libvirtxml.Domain)
	if err := x.Unmarshal(string(text)); err != nil {
		return nil, fault.As(fault.InvalidArgument, err, "definition")
	}
	if x.UUID == "" || x.Name == "" {
		return nil, fault.New(fault.InvalidArgument, "definition: has no name or no UUID")
	}
	return x, nil
}

func deviceName(d *libvirtxml.DomainDisk) string {
	if d.Target == nil {
		return ""
	}
	return d.Target.Dev
}

// sourceKind says in libvirt's word what a disk is that is no file.
func sourceKind(s *libvirtxml.DomainDiskSource) string {
	switch {
	case s == nil:
		return "nothing"
	case s.File != nil:
		return "file"
	case s.Block != nil:
		return "block device"
	case s.Network != nil:
		return "network"
	case s.Volume != nil:
		return "pool volume"
	default:
		return "another source"
	}
}

// SetAutostart implements hypervisor.Appliances.
func (d *Driver) SetAutostart(ctx context.Context, machine string, on bool) error {
	value := int32(0)
	if on {
		value = 1
	}
	return d.slow.do(ctx, func(c *conn) error {
		dom, err := lookup(c, machine)
		if err != nil {
			return err
		}
		return classify(c.DomainSetAutostart(dom, value), "machine %q: start it with the host", dom.Name)
	})
}

// DropCheckpoint implements hypervisor.Appliances.
func (d *Driver) DropCheckpoint(ctx context.Context, machine, name string) error {
	return d.slow.do(ctx, func(c *conn) error {
		dom, err := lookup(c, machine)
		if fault.Is(err, fault.NotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		return dropCheckpoint(c, dom, name)
	})
}

func dropCheckpoint(c *conn, dom golibvirt.Domain, name string) error {
	point, err := c.DomainCheckpointLookupByName(dom, name, 0)
	if isNumber(err, golibvirt.ErrNoDomainCheckpoint) {
		return nil
	}
	if err == nil {
		err = c.DomainCheckpointDelete(point, 0)
	}
	return classify(err, "machine %q: forget checkpoint %q", dom.Name, name)
}
