package libvirt

import (
	"encoding/xml"
	"math"
	"strconv"
	"strings"

	"libvirt.org/go/libvirtxml"

	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// parseDomain translates a definition back. It takes any definition, also one that was not made by this driver: what a Spec has no
// word for is left out.
func parseDomain(d *libvirtxml.Domain) hypervisor.Spec {
	s := hypervisor.Spec{UUID: d.UUID, Name: d.Name, Firmware: parseFirmware(d), CPUMillis: parseCPUMillis(d)}
	parseSizes(d, &s)
	if ours := parseMetadata(d); ours != nil {
		s.CPUPriority = ours.CPUPriority
	}
	if d.OS != nil {
		s.Kernel, s.Initrd, s.CommandLine = d.OS.Kernel, d.OS.Initrd, d.OS.Cmdline
		if d.OS.Type != nil {
			s.Arch, s.Machine = parseArch(d.OS.Type.Arch), parseMachine(d.OS.Type.Machine)
		}
	}
	if d.Devices != nil {
		s.Disks, s.NICs, s.Console = parseDisks(d), parseInterfaces(d.Devices.Interfaces), parseConsole(d.Devices)
		if nics := d.Devices.Interfaces; len(nics) > 0 {
			s.NetBoot = nics[0].Boot != nil && nics[0].Boot.Order == 1
		}
		if w := d.Devices.Watchdogs; len(w) > 0 && w[0].Model != "itco" { // which belongs to the q35 board
			s.Watchdog = hypervisor.Watchdog{Model: w[0].Model, Action: w[0].Action}
		}
	}
	return s
}

// memoryUnit returns the bytes of a unit of libvirt's XML. libvirt itself writes KiB.
func memoryUnit(unit string) uint64 {
	switch unit {
	case "b", "bytes":
		return 1
	case "M", "MiB":
		return 1 << 20
	case "G", "GiB":
		return 1 << 30
	default:
		return 1 << 10
	}
}

func parseArch(name string) hypervisor.Arch {
	switch name {
	case "x86_64":
		return hypervisor.ArchAMD64
	case "aarch64":
		return hypervisor.ArchARM64
	default:
		return hypervisor.ArchAuto
	}
}

// parseMachine knows a board by any of its versions: libvirt replaces "q35" by the newest, like "pc-q35-7.2".
func parseMachine(name string) hypervisor.MachineType {
	switch {
	case name == "q35" || strings.HasPrefix(name, "pc-q35"):
		return hypervisor.MachineQ35
	case name == "pc" || strings.HasPrefix(name, "pc-i440fx"):
		return hypervisor.MachinePC
	case name == "virt" || strings.HasPrefix(name, "virt-"):
		return hypervisor.MachineVirt
	default:
		return hypervisor.MachineAuto
	}
}

func parseFirmware(d *libvirtxml.Domain) hypervisor.Firmware {
	if d.OS != nil && (d.OS.Firmware == "efi" || d.OS.Loader != nil && d.OS.Loader.Type == "pflash") {
		return hypervisor.FirmwareUEFI
	}
	return hypervisor.FirmwareBIOS
}

// parseCPUMillis prefers what was asked for over what the host enforces.
func parseCPUMillis(d *libvirtxml.Domain) uint32 {
	if ours := parseMetadata(d); ours != nil {
		return ours.CPUMillis
	}
	if t := d.CPUTune; t != nil && t.GlobalQuota != nil && t.GlobalQuota.Value > 0 {
		period := uint64(quotaPeriod)
		if t.GlobalPeriod != nil && t.GlobalPeriod.Value > 0 {
			period = t.GlobalPeriod.Value
		}
		return uint32(uint64(t.GlobalQuota.Value) * 1000 / period)
	}
	return 0
}

// parseMetadata returns our element below <metadata>, or nil. Other programs may have elements of their own beside it.
func parseMetadata(d *libvirtxml.Domain) *machineMetadata {
	if d.Metadata == nil {
		return nil
	}
	var all struct {
		Machine *machineMetadata `xml:"https://hyperplane-project.github.io/xmlns/machine/1 machine"`
	}
	if err := xml.Unmarshal([]byte("<metadata>"+d.Metadata.XML+"</metadata>"), &all); err != nil {
		return nil
	}
	return all.Machine
}

// parseDisks leaves out disks that are no files, and CD-ROMs that this driver did not make.
func parseDisks(domain *libvirtxml.Domain) (disks []hypervisor.Disk) {
	for _, d := range fileDisks(domain) {
		cd := d.Device == "cdrom" && diskPlace(d) != noPlace
		if d.Device != "" && d.Device != "disk" && !cd {
			continue
		}
		disks = append(disks, hypervisor.Disk{
			File: fileOf(d), Format: formatOf(d), Bus: busOf(domain, d), ReadOnly: d.ReadOnly != nil, CDROM: cd,
		})
	}
	return disks
}

func formatOf(d libvirtxml.DomainDisk) hypervisor.DiskFormat {
	if d.Driver != nil && d.Driver.Type == "qcow2" {
		return hypervisor.DiskQCOW2
	}
	return hypervisor.DiskRaw
}

// noPlace is the place of disks that this driver did not make.
const noPlace = math.MaxInt

// diskPlace is a disk's place in the Spec. Disks that this driver did not make stay in libvirt's order, behind the others.
func diskPlace(d libvirtxml.DomainDisk) int {
	if d.Alias != nil {
		for _, prefix := range diskAliases() {
			if number, ours := strings.CutPrefix(d.Alias.Name, prefix); ours {
				if place, err := strconv.Atoi(number); err == nil {
					return place
				}
			}
		}
	}
	return noPlace
}

func parseBus(name string) hypervisor.DiskBus {
	for _, bus := range []hypervisor.DiskBus{hypervisor.BusIDE, hypervisor.BusSATA, hypervisor.BusSCSI, hypervisor.BusNVMe} {
		if name == bus.String() {
			return bus
		}
	}
	return hypervisor.BusVirtio
}

// parseInterfaces leaves out cards that are connected to neither a bridge nor a network.
func parseInterfaces(all []libvirtxml.DomainInterface) (nics []hypervisor.NIC) {
	for _, i := range all {
		var nic hypervisor.NIC
		switch {
		case i.Source == nil || i.MAC == nil:
			continue
		case i.Source.Network != nil:
			nic.Network = i.Source.Network.Network
		case i.Source.Bridge != nil:
			nic.Bridge = i.Source.Bridge.Bridge
		default:
			continue
		}
		nic.MAC = i.MAC.Address
		if i.Model != nil {
			nic.Model = i.Model.Type
		}
		if i.Driver != nil {
			nic.Queues = uint32(i.Driver.Queues)
		}
		nics = append(nics, nic)
	}
	return nics
}

func parseConsole(devices *libvirtxml.DomainDeviceList) hypervisor.Console {
	for _, g := range devices.Graphics {
		if g.VNC != nil {
			return hypervisor.ConsoleVNC
		}
	}
	for _, v := range devices.Videos {
		if v.Model.Type != "none" {
			return hypervisor.ConsoleDummy
		}
	}
	return hypervisor.ConsoleNone
}
