package ovf

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/hyperplane-project/hyperplane/providers/driver"
)

// The resource types of CIM_ResourceAllocationSettingData that a VM's description uses.
const (
	typeProcessor    = 3
	typeMemory       = 4
	typeIDE          = 5
	typeSCSI         = 6
	typeEthernet     = 10
	typeDisk         = 17
	typeOtherStorage = 20
)

// place is a controller of a bus.
type place struct {
	bus    string
	number int
}

// builder numbers the items: InstanceID is unique in the section and Parent refers to it.
type builder struct {
	items  []item
	owners map[place]int
}

func (b *builder) add(it item) int {
	it.InstanceID = len(b.items) + 1
	b.items = append(b.items, it)
	return it.InstanceID
}

func hardware(vm driver.VM, name string) hardwareSection {
	b := &builder{owners: make(map[place]int)}
	cpus := max(1, uint64(vm.CPUs))
	b.add(item{
		AllocationUnits: "hertz * 10^6", Description: "Number of Virtual CPUs",
		ElementName: fmt.Sprintf("%d virtual CPU(s)", cpus), Type: typeProcessor, Quantity: cpus,
	})
	memory := (vm.MemoryBytes + 1<<20 - 1) >> 20
	b.add(item{
		AllocationUnits: "byte * 2^20", Description: "Memory Size",
		ElementName: fmt.Sprintf("%dMB of memory", memory), Type: typeMemory, Quantity: memory,
	})
	b.controllers(vm)
	for i, d := range vm.Disks {
		b.disk(i, d)
	}
	for i, n := range vm.NICs {
		b.nic(i, n)
	}
	return hardwareSection{
		Info:   "Virtual hardware requirements",
		System: system{ElementName: "Virtual Hardware Family", Identifier: name, Type: hardwareVersion(vm)},
		Items:  b.items,
		Config: firmwareConfig(vm),
	}
}

// hardwareVersion is the oldest version of VMware's hardware that can do what the VM needs: 13 (vSphere 6.5) for NVMe and secure boot,
// otherwise 10 (vSphere 5.5), which has SATA.
func hardwareVersion(vm driver.VM) string {
	if vm.SecureBoot || slices.ContainsFunc(vm.Disks, func(d driver.DiskInfo) bool { return d.Bus == "nvme" }) {
		return "vmx-13"
	}
	return "vmx-10"
}

func firmwareConfig(vm driver.VM) []config {
	var out []config
	switch vm.Firmware {
	case driver.FirmwareUEFI:
		out = append(out, config{Key: "firmware", Value: "efi"})
	case driver.FirmwareBIOS:
		out = append(out, config{Key: "firmware", Value: "bios"})
	default: // the importer chooses
	}
	if vm.SecureBoot {
		out = append(out, config{Key: "bootOptions.efiSecureBootEnabled", Value: "true"})
	}
	return out
}

// controllers adds one item per controller that a disk needs, in a fixed order.
func (b *builder) controllers(vm driver.VM) {
	models := make(map[place]string)
	var places []place
	for _, d := range vm.Disks {
		p := placeOf(d)
		if _, ok := models[p]; !ok {
			models[p] = d.ControllerModel
			places = append(places, p)
		}
	}
	slices.SortFunc(places, func(x, y place) int {
		return cmp.Or(cmp.Compare(x.bus, y.bus), cmp.Compare(x.number, y.number))
	})
	for _, p := range places {
		it := item{Address: fmt.Sprint(p.number)}
		switch p.bus {
		case "ide":
			it.Type, it.ElementName, it.Description = typeIDE, fmt.Sprintf("IDE controller %d", p.number), "IDE Controller"
		case "sata":
			it.Type, it.SubType, it.ElementName, it.Description = typeOtherStorage, "vmware.sata.ahci", fmt.Sprintf("SATA controller %d", p.number), "SATA Controller"
		case "nvme":
			it.Type, it.SubType, it.ElementName, it.Description = typeOtherStorage, "vmware.nvme.controller", fmt.Sprintf("NVMe controller %d", p.number), "NVMe Controller"
		default:
			it.Type, it.SubType, it.ElementName, it.Description = typeSCSI, scsiModel(models[p]), fmt.Sprintf("SCSI controller %d", p.number), "SCSI Controller"
		}
		b.owners[p] = b.add(it)
	}
}

// placeOf treats buses that OVF has no word for (virtio) as SCSI: it is what every importer can offer.
func placeOf(d driver.DiskInfo) place {
	switch d.Bus {
	case "ide", "sata", "nvme":
		return place{d.Bus, d.Controller}
	default:
		return place{"scsi", d.Controller}
	}
}

// scsiModel gives the words of VMware's importers; LSI Logic is the one that all others know too.
func scsiModel(model string) string {
	switch strings.ToLower(model) {
	case "pvscsi":
		return "VirtualSCSI"
	case "lsilogic-sas":
		return "lsilogicsas"
	case "buslogic":
		return "buslogic"
	default:
		return "lsilogic"
	}
}

func (b *builder) disk(i int, d driver.DiskInfo) {
	parent, unit := b.owners[placeOf(d)], d.Unit
	b.add(item{
		AddressOnParent: &unit, ElementName: cmp.Or(d.Label, fmt.Sprintf("Hard disk %d", i+1)),
		HostResource: "ovf:/disk/" + diskID(i), Parent: &parent, Type: typeDisk,
	})
}

func (b *builder) nic(i int, n driver.NIC) {
	slot, automatic := i+7, n.Connected // VMware's own descriptors start at 7, the first PCI slot that is free
	b.add(item{
		Address: n.MAC, AddressOnParent: &slot, Automatic: &automatic, Connection: networkName(n),
		Description: fmt.Sprintf("%s adapter on %q", nicModel(n.Model), networkName(n)),
		ElementName: cmp.Or(n.Label, fmt.Sprintf("Network adapter %d", i+1)), SubType: nicModel(n.Model), Type: typeEthernet,
	})
}

// nicModel gives the words of VMware's importers; E1000 is the one that all others know too.
func nicModel(model string) string {
	switch strings.ToLower(model) {
	case "vmxnet3":
		return "VmxNet3"
	case "vmxnet2":
		return "VmxNet2"
	case "e1000e":
		return "E1000e"
	case "pcnet32":
		return "PCNet32"
	case "virtio":
		return "virtio"
	default:
		return "E1000"
	}
}

// osID is the number of the guest system in CIM_OperatingSystem.OsType as far as the families go; importers that know the exact type take it from
// vmw:osType.
func osID(guest string) int {
	g := strings.ToLower(guest)
	wide := strings.Contains(g, "64")
	pick := func(narrow, sixtyFour int) int {
		if wide {
			return sixtyFour
		}
		return narrow
	}
	switch {
	case strings.HasPrefix(g, "ubuntu"):
		return pick(93, 94)
	case strings.HasPrefix(g, "debian"):
		return pick(95, 96)
	case strings.HasPrefix(g, "rhel"):
		return pick(79, 80)
	case strings.HasPrefix(g, "centos"):
		return pick(106, 107)
	case strings.HasPrefix(g, "sles"):
		return pick(84, 85)
	case strings.HasPrefix(g, "freebsd"):
		return pick(42, 78)
	case strings.Contains(g, "linux"):
		return pick(36, 101)
	case strings.HasPrefix(g, "windows7server"):
		return 103
	case strings.HasPrefix(g, "windows7"):
		return 105
	case strings.HasPrefix(g, "windows") && (strings.Contains(g, "server") || strings.Contains(g, "srv")):
		return 112
	case strings.HasPrefix(g, "windows"):
		return pick(113, 114)
	default:
		return pick(1, 102)
	}
}
