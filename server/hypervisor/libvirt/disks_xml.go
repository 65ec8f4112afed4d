package libvirt

import (
	"strconv"

	"libvirt.org/go/libvirtxml"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// diskAlias begins the names of disks, followed by their place in the Spec: libvirt puts disks of one bus together.
// Names that are not libvirt's own begin with "ua-".
const diskAlias = "ua-disk"

// aliasOf returns a disk's alias for its place in the Spec.
func aliasOf(place int) string { return diskAlias + strconv.Itoa(place) }

// diskAliases are the beginnings of the names of all disks that this driver makes.
func diskAliases() []string { return []string{nvmeAlias, diskAlias} }

func buildDisks(s hypervisor.Spec) ([]libvirtxml.DomainDisk, error) {
	names := make(map[string]int)
	disks := make([]libvirtxml.DomainDisk, len(s.Disks))
	for i, d := range s.Disks {
		prefix, err := targetPrefix(d.Bus)
		if err != nil {
			return nil, fault.Wrap(err, "machine %q: disk %d (%s)", s.Name, i, d.File)
		}
		disks[i] = describeDisk(d, prefix+driveLetters(names[prefix]), i)
		names[prefix]++
		if d.Bus == hypervisor.BusNVMe {
			nameNVMe(&disks[i], s.UUID, i)
		}
	}
	if len(disks) > 0 {
		disks[0].Boot = &libvirtxml.DomainDeviceBoot{Order: 1}
		if s.NetBoot {
			disks[0].Boot.Order = 2
		}
	}
	return disks, nil
}

// describeDisk describes the disk that the guest sees as target and that stands at the given place in the Spec.
func describeDisk(d hypervisor.Disk, target string, place int) libvirtxml.DomainDisk {
	disk := libvirtxml.DomainDisk{
		Device: "disk",
		Driver: &libvirtxml.DomainDiskDriver{Name: "qemu", Type: d.Format.String(), Discard: "unmap"},
		Source: &libvirtxml.DomainDiskSource{File: &libvirtxml.DomainDiskSourceFile{File: d.File}},
		Target: &libvirtxml.DomainDiskTarget{Dev: target, Bus: d.Bus.String()},
		Alias:  &libvirtxml.DomainAlias{Name: aliasOf(place)},
	}
	if d.CDROM {
		disk.Device, disk.Driver.Discard = "cdrom", ""
	}
	if d.Bus == hypervisor.BusSCSI {
		// All on one controller: libvirt would make others, of a kind that guests may not know.
		disk.Address = &libvirtxml.DomainAddress{Drive: &libvirtxml.DomainAddressDrive{Target: new(uint(place))}}
	}
	if d.ReadOnly || d.CDROM {
		disk.ReadOnly = &libvirtxml.DomainDiskReadOnly{}
	}
	return disk
}

// targetPrefix returns the beginning of the name by which libvirt tells a bus's disks apart.
func targetPrefix(bus hypervisor.DiskBus) (string, error) {
	switch bus {
	case hypervisor.BusVirtio, hypervisor.BusNVMe:
		return "vd", nil
	case hypervisor.BusIDE:
		return "hd", nil
	case hypervisor.BusSATA, hypervisor.BusSCSI:
		return "sd", nil
	default:
		return "", fault.New(fault.Unimplemented, "bus %s is not built for libvirt; use virtio", bus)
	}
}

// driveLetters counts a, b, … z, aa, ab, …
func driveLetters(n int) string {
	letters := string(rune('a' + n%26))
	if n < 26 {
		return letters
	}
	return driveLetters(n/26-1) + letters
}
