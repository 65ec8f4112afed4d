package libvirt

import (
	"path/filepath"
	"slices"
	"strings"

	"libvirt.org/go/libvirtxml"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// graft puts what the guest of a machine that comes from another host sees of it into the machine as this host would start it: sizes, processor, board and
// the places of devices. Everything else, above all what names a file, a program or a network, is this host's own and never the source's.
func graft(here, coming *libvirtxml.Domain) error {
	if coming.Devices == nil || coming.OS == nil || coming.OS.Type == nil {
		return differs("board")
	}
	if err := graftFirmware(here.OS, coming.OS); err != nil {
		return err
	}
	here.OS.Type = coming.OS.Type
	here.Memory, here.CurrentMemory, here.MaximumMemory = coming.Memory, coming.CurrentMemory, coming.MaximumMemory
	here.VCPU, here.VCPUs, here.CPU, here.Features, here.Clock = coming.VCPU, coming.VCPUs, coming.CPU, coming.Features, coming.Clock
	for _, part := range []func(here, coming *libvirtxml.DomainDeviceList) error{graftDisks, graftInterfaces, graftMemory, graftOthers} {
		if err := part(here.Devices, coming.Devices); err != nil {
			return err
		}
	}
	return nil
}

// firmwareDir is below which hosts keep their firmware. Nothing else is read for a machine because its source says so.
const firmwareDir = "/usr/share/"

// graftFirmware takes over which build of UEFI the machine was started with: its size must be the same. libvirt chooses one for new machines only, and 9.0
// dies of an incoming one without it. The variables come with the memory.
func graftFirmware(here, coming *libvirtxml.DomainOS) error {
	if (here.Firmware == "") != (coming.Loader == nil) {
		return differs("firmware")
	}
	if here.Firmware == "" {
		return nil
	}
	if coming.NVRam == nil || !isFirmware(coming.Loader.Path) || !isFirmware(coming.NVRam.Template) {
		return differs("firmware")
	}
	here.Firmware, here.FirmwareInfo = coming.Firmware, coming.FirmwareInfo
	here.Loader = coming.Loader
	here.NVRam = &libvirtxml.DomainNVRam{NVRam: here.NVRam.NVRam, Template: coming.NVRam.Template}
	return nil
}

func isFirmware(path string) bool {
	return strings.HasPrefix(path, firmwareDir) && filepath.Clean(path) == path
}

// nameDisks gives the disks of a definition the names that they have in the live machine, so that disks that come later find a name that is free in both.
func nameDisks(here, coming *libvirtxml.Domain) {
	for i, d := range fileDisks(coming) {
		if i < len(here.Devices.Disks) {
			here.Devices.Disks[i].Target, here.Devices.Disks[i].Alias = d.Target, d.Alias
		}
	}
}

func differs(what string) error {
	return fault.New(fault.FailedPrecondition, "its %s is not what its description says, so it can not be moved while it runs", what)
}

// graftDisks goes by their order: a disk that was taken away leaves a gap in the aliases, which must stay as they are, because QEMU's exports are named
// after them.
func graftDisks(here, coming *libvirtxml.DomainDeviceList) error {
	all := slices.Clone(coming.Disks)
	slices.SortStableFunc(all, func(a, b libvirtxml.DomainDisk) int { return diskPlace(a) - diskPlace(b) })
	if len(all) != len(here.Disks) {
		return differs("number of disks")
	}
	for i, d := range all {
		mine := &here.Disks[i]
		if diskPlace(d) == noPlace || d.Target == nil || d.Target.Bus != mine.Target.Bus || d.Device != mine.Device || formatOf(d) != formatOf(*mine) {
			return differs("disk " + aliasOf(i))
		}
		mine.Target, mine.Address, mine.Alias, mine.Boot = d.Target, d.Address, d.Alias, d.Boot
	}
	return nil
}

// graftInterfaces goes by their addresses.
func graftInterfaces(here, coming *libvirtxml.DomainDeviceList) error {
	if len(coming.Interfaces) != len(here.Interfaces) {
		return differs("number of network cards")
	}
	for n := range here.Interfaces {
		mine := &here.Interfaces[n]
		i := slices.IndexFunc(coming.Interfaces, func(i libvirtxml.DomainInterface) bool {
			return i.MAC != nil && strings.EqualFold(i.MAC.Address, mine.MAC.Address) && i.Model != nil && i.Model.Type == mine.Model.Type
		})
		if i < 0 {
			return differs("network card " + mine.MAC.Address)
		}
		mine.Address, mine.Alias, mine.Boot = coming.Interfaces[i].Address, coming.Interfaces[i].Alias, coming.Interfaces[i].Boot
	}
	return nil
}

// graftMemory takes over the memory modules.
func graftMemory(here, coming *libvirtxml.DomainDeviceList) error {
	here.Memorydevs = nil
	for _, m := range coming.Memorydevs {
		if m.Model != "dimm" {
			return differs("memory")
		}
		here.Memorydevs = append(here.Memorydevs, libvirtxml.DomainMemorydev{Model: m.Model, Target: m.Target, Address: m.Address, Alias: m.Alias})
	}
	return nil
}

// graftOthers takes over the places of all other devices.
func graftOthers(here, coming *libvirtxml.DomainDeviceList) error {
	here.Controllers = coming.Controllers
	tablets := slices.DeleteFunc(slices.Clone(coming.Inputs), func(i libvirtxml.DomainInput) bool { return i.Bus != "usb" })
	watchdogs := slices.DeleteFunc(slices.Clone(coming.Watchdogs), func(w libvirtxml.DomainWatchdog) bool { return w.Model == "itco" }) // the board's own
	if len(coming.Serials) != len(here.Serials) || len(coming.Graphics) != len(here.Graphics) || len(coming.Videos) != len(here.Videos) ||
		len(tablets) != len(here.Inputs) || len(watchdogs) != len(here.Watchdogs) || len(coming.RNGs) != len(here.RNGs) || coming.MemBalloon == nil {
		return differs("list of devices")
	}
	for i, s := range coming.Serials {
		here.Serials[i].Target, here.Serials[i].Address, here.Serials[i].Alias = s.Target, s.Address, s.Alias
	}
	for i, v := range coming.Videos {
		here.Videos[i].Model, here.Videos[i].Address, here.Videos[i].Alias = v.Model, v.Address, v.Alias
	}
	for i, t := range tablets {
		here.Inputs[i].Address, here.Inputs[i].Alias = t.Address, t.Alias
	}
	for i, w := range watchdogs {
		here.Watchdogs[i].Address, here.Watchdogs[i].Alias = w.Address, w.Alias
	}
	for i, r := range coming.RNGs {
		here.RNGs[i].Address, here.RNGs[i].Alias = r.Address, r.Alias
	}
	here.MemBalloon.Address, here.MemBalloon.Alias = coming.MemBalloon.Address, coming.MemBalloon.Alias
	return nil
}
