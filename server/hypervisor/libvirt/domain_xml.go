package libvirt

import (
	"encoding/xml"
	"fmt"
	"slices"

	"libvirt.org/go/libvirtxml"

	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// quotaPeriod is the scheduler period of CPU limits in microseconds, the kernel's default.
const quotaPeriod = 100_000

// machineMetadata is the element below <metadata> that keeps what libvirt has no place for.
type machineMetadata struct {
	XMLName     xml.Name `xml:"https://hyperplane-project.github.io/xmlns/machine/1 machine"`
	CPUMillis   uint32   `xml:"cpu-millis,attr"`
	CPUPriority int32    `xml:"cpu-priority,attr,omitempty"`
}

// domainEnv is what a domain's definition takes from the host rather than from the Spec.
type domainEnv struct {
	// virtType is kvm or qemu.
	virtType string
	// limitCPU says that the host can enforce CPUMillis and CPUPriority, unified that its cgroups are of version 2.
	limitCPU, unified bool
	// files are the machine's sockets and logs.
	files machineFiles
	// nvram is the file for UEFI variables.
	nvram string
	// old is the definition that is replaced, or nil.
	old *libvirtxml.Domain
}

// buildDomain translates a resolved Spec. Addresses and most controllers are left to libvirt, which makes a change of the board possible.
func buildDomain(s hypervisor.Spec, env domainEnv) (*libvirtxml.Domain, error) {
	metadata, err := buildMetadata(s)
	if err != nil {
		return nil, err
	}
	disks, err := buildDisks(s)
	if err != nil {
		return nil, err
	}
	d := &libvirtxml.Domain{
		Type:       env.virtType,
		Name:       s.Name,
		UUID:       s.UUID,
		Metadata:   metadata,
		Memory:     &libvirtxml.DomainMemory{Value: uint(s.MemoryBytes >> 10), Unit: "KiB"},
		VCPU:       &libvirtxml.DomainVCPU{Placement: "static", Value: uint(s.CPUs)},
		OS:         buildOS(s, env),
		Features:   buildFeatures(s),
		CPU:        &libvirtxml.DomainCPU{Mode: "maximum"},
		Clock:      buildClock(s),
		OnPoweroff: "destroy",
		OnReboot:   "restart",
		OnCrash:    "destroy",
		Devices: &libvirtxml.DomainDeviceList{
			Disks:       disks,
			Controllers: buildControllers(s),
			Interfaces:  buildInterfaces(s),
			Serials:     buildSerials(s, env.files),
			MemBalloon:  &libvirtxml.DomainMemBalloon{Model: "virtio"},
			RNGs: []libvirtxml.DomainRNG{{
				Model:   "virtio",
				Backend: &libvirtxml.DomainRNGBackend{Random: &libvirtxml.DomainRNGBackendRandom{Device: "/dev/urandom"}},
			}},
		},
	}
	if env.virtType == virtKVM {
		d.CPU = &libvirtxml.DomainCPU{Mode: "host-passthrough", Migratable: "on"}
	}
	d.QEMUOverride = buildNVMe(s)
	addHeadroom(d, s)
	if env.limitCPU {
		d.CPUTune = buildTune(s, env.unified)
	}
	if s.Watchdog.Model != "" {
		d.Devices.Watchdogs = []libvirtxml.DomainWatchdog{{Model: s.Watchdog.Model, Action: s.Watchdog.Action}}
	}
	addConsole(d.Devices, s, env.files)
	return d, nil
}

// buildQuota limits all of a machine's threads together.
func buildQuota(millis uint32) *libvirtxml.DomainCPUTune {
	return &libvirtxml.DomainCPUTune{
		GlobalPeriod: &libvirtxml.DomainCPUTunePeriod{Value: quotaPeriod},
		GlobalQuota:  &libvirtxml.DomainCPUTuneQuota{Value: int64(millis) * quotaPeriod / 1000},
	}
}

func buildMetadata(s hypervisor.Spec) (*libvirtxml.DomainMetadata, error) {
	text, err := xml.Marshal(machineMetadata{CPUMillis: s.CPUMillis, CPUPriority: s.CPUPriority})
	if err != nil {
		return nil, err
	}
	return &libvirtxml.DomainMetadata{XML: string(text)}, nil
}

func buildOS(s hypervisor.Spec, env domainEnv) *libvirtxml.DomainOS {
	os := &libvirtxml.DomainOS{
		Type:   &libvirtxml.DomainOSType{Arch: archName(s.Arch), Machine: s.Machine.String(), Type: "hvm"},
		Kernel: s.Kernel, Initrd: s.Initrd, Cmdline: s.CommandLine,
	}
	if s.Firmware == hypervisor.FirmwareUEFI {
		os.Firmware = "efi"
		// libvirt prefers a build with secure boot, which refuses unsigned loaders.
		os.FirmwareInfo = &libvirtxml.DomainOSFirmwareInfo{
			Features: []libvirtxml.DomainOSFirmwareFeature{{Enabled: "no", Name: "secure-boot"}},
		}
		// libvirt's own choice is named after the machine, and lost when that is renamed.
		os.NVRam = &libvirtxml.DomainNVRam{NVRam: env.nvram}
	}
	if old := env.old; old != nil && old.OS != nil && old.OS.Type != nil && parseMachine(old.OS.Type.Machine) == s.Machine {
		os.Type.Machine = old.OS.Type.Machine // the guest keeps the version of the board that it was made with
	}
	return os
}

// isOurs reports whether a definition was made by this driver.
func isOurs(d *libvirtxml.Domain) bool { return parseMetadata(d) != nil }

func buildFeatures(s hypervisor.Spec) *libvirtxml.DomainFeatureList {
	f := &libvirtxml.DomainFeatureList{ACPI: &libvirtxml.DomainFeature{}}
	if s.Arch == hypervisor.ArchAMD64 {
		f.APIC = &libvirtxml.DomainFeatureAPIC{}
	}
	return f
}

// buildClock has the PC's timers make up for ticks that a busy host did not deliver in time, as far as guests cope with that.
func buildClock(s hypervisor.Spec) *libvirtxml.DomainClock {
	clock := &libvirtxml.DomainClock{Offset: "utc"}
	if s.Arch == hypervisor.ArchAMD64 {
		clock.Timer = []libvirtxml.DomainTimer{
			{Name: "rtc", TickPolicy: "catchup"}, {Name: "pit", TickPolicy: "delay"}, {Name: "hpet", Present: "no"},
		}
	}
	return clock
}

// buildControllers names only those that libvirt would not choose as we want them.
func buildControllers(s hypervisor.Spec) []libvirtxml.DomainController {
	usb := "none"
	if s.Console == hypervisor.ConsoleVNC {
		usb = "qemu-xhci" // for the pointer
	}
	controllers := []libvirtxml.DomainController{{Type: "usb", Model: usb}}
	if hasBus(s, hypervisor.BusSCSI) {
		controllers = append(controllers, libvirtxml.DomainController{Type: "scsi", Model: "virtio-scsi"})
	}
	return append(controllers, buildPorts(s)...)
}

func hasBus(s hypervisor.Spec, bus hypervisor.DiskBus) bool {
	return slices.ContainsFunc(s.Disks, func(d hypervisor.Disk) bool { return d.Bus == bus })
}

func buildInterfaces(s hypervisor.Spec) []libvirtxml.DomainInterface {
	nics := make([]libvirtxml.DomainInterface, len(s.NICs))
	for i, nic := range s.NICs {
		iface := libvirtxml.DomainInterface{
			MAC:    &libvirtxml.DomainInterfaceMAC{Address: nic.MAC},
			Model:  &libvirtxml.DomainInterfaceModel{Type: "virtio"},
			Source: &libvirtxml.DomainInterfaceSource{Bridge: &libvirtxml.DomainInterfaceSourceBridge{Bridge: nic.Bridge}},
		}
		if nic.Network != "" {
			iface.Source = &libvirtxml.DomainInterfaceSource{Network: &libvirtxml.DomainInterfaceSourceNetwork{Network: nic.Network}}
		}
		if nic.Model != "" {
			iface.Model.Type = nic.Model
		}
		if s.NetBoot && i == 0 {
			iface.Boot = &libvirtxml.DomainDeviceBoot{Order: 1}
		}
		if nic.Queues > 1 {
			iface.Driver = &libvirtxml.DomainInterfaceDriver{Queues: uint(nic.Queues)}
		}
		nics[i] = iface
	}
	return nics
}

func buildSerials(s hypervisor.Spec, files machineFiles) []libvirtxml.DomainSerial {
	port := uint(0)
	serial := libvirtxml.DomainSerial{
		Source: &libvirtxml.DomainChardevSource{UNIX: &libvirtxml.DomainChardevSourceUNIX{Mode: "bind", Path: files.serial()}},
		Target: &libvirtxml.DomainSerialTarget{Port: &port},
		// virtlogd keeps the file within bounds, also while nobody is connected.
		Log: &libvirtxml.DomainChardevLog{File: files.serialLog(), Append: "on"},
	}
	if s.Arch == hypervisor.ArchAMD64 {
		serial.Target.Type = "isa-serial"
	}
	return []libvirtxml.DomainSerial{serial}
}

// addConsole adds the display. A dummy is a graphics card that nothing shows.
func addConsole(devices *libvirtxml.DomainDeviceList, s hypervisor.Spec, files machineFiles) {
	card := "vga"
	if s.Arch != hypervisor.ArchAMD64 {
		card = "virtio"
	}
	if s.Console == hypervisor.ConsoleNone {
		card = "none"
	}
	devices.Videos = []libvirtxml.DomainVideo{{Model: libvirtxml.DomainVideoModel{Type: card}}}
	if s.Console != hypervisor.ConsoleVNC {
		return
	}
	devices.Inputs = []libvirtxml.DomainInput{{Type: "tablet", Bus: "usb"}}
	devices.Graphics = []libvirtxml.DomainGraphic{{VNC: &libvirtxml.DomainGraphicVNC{
		Listeners: []libvirtxml.DomainGraphicListener{{Socket: &libvirtxml.DomainGraphicListenerSocket{Socket: files.display()}}},
	}}}
}

func archName(a hypervisor.Arch) string {
	switch a {
	case hypervisor.ArchAMD64:
		return "x86_64"
	case hypervisor.ArchARM64:
		return "aarch64"
	default:
		return fmt.Sprint(a)
	}
}
