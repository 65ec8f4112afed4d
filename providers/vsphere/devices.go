package vsphere

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/hyperplane-project/hyperplane/providers/driver"
)

// devices is the device list of a VM or of a snapshot.
type devices struct {
	all         []types.BaseVirtualDevice
	controllers map[int32]controller
	bootRank    map[int32]int // place in the configured boot order, by device key
	encrypted   bool
}

// controller is what a disk hangs on.
type controller struct {
	bus, model string
	number     int
	kind       string // the API's name of the type, as the keys of an export lease spell it
	sharedBus  types.VirtualSCSISharing
}

func newDevices(cfg types.VirtualMachineConfigInfo) devices {
	d := devices{
		all: cfg.Hardware.Device, controllers: make(map[int32]controller),
		bootRank: make(map[int32]int), encrypted: cfg.KeyId != nil,
	}
	for _, dev := range d.all {
		if c, ok := newController(dev); ok {
			d.controllers[dev.GetVirtualDevice().Key] = c
		}
	}
	if cfg.BootOptions != nil {
		for _, b := range cfg.BootOptions.BootOrder {
			if disk, ok := b.(*types.VirtualMachineBootOptionsBootableDiskDevice); ok {
				d.bootRank[disk.DeviceKey] = len(d.bootRank) + 1
			}
		}
	}
	return d
}

func newController(dev types.BaseVirtualDevice) (controller, bool) {
	base, ok := dev.(types.BaseVirtualController)
	if !ok {
		return controller{}, false
	}
	c := controller{number: int(base.GetVirtualController().BusNumber)}
	if scsi, ok := dev.(types.BaseVirtualSCSIController); ok {
		c.bus, c.sharedBus = "scsi", scsi.GetVirtualSCSIController().SharedBus
	}
	switch dev.(type) {
	case *types.ParaVirtualSCSIController:
		c.model, c.kind = "pvscsi", "ParaVirtualSCSIController"
	case *types.VirtualLsiLogicController:
		c.model, c.kind = "lsilogic", "VirtualLsiLogicController"
	case *types.VirtualLsiLogicSASController:
		c.model, c.kind = "lsilogic-sas", "VirtualLsiLogicSASController"
	case *types.VirtualBusLogicController:
		c.model, c.kind = "buslogic", "VirtualBusLogicController"
	case *types.VirtualIDEController:
		c.bus, c.kind = "ide", "VirtualIDEController"
	case *types.VirtualAHCIController:
		c.bus, c.model, c.kind = "sata", "ahci", "VirtualAHCIController"
	case *types.VirtualNVMEController:
		c.bus, c.kind = "nvme", "VirtualNVMEController"
	}
	return c, c.bus != ""
}

// disk is a disk with what the driver's description has no word for.
type disk struct {
	*types.VirtualDisk
	on   controller
	unit int
}

func (d devices) virtualDisks() []disk {
	var out []disk
	for _, dev := range d.all {
		v, ok := dev.(*types.VirtualDisk)
		if !ok {
			continue
		}
		one := disk{VirtualDisk: v, on: d.controllers[v.ControllerKey]}
		if v.UnitNumber != nil {
			one.unit = int(*v.UnitNumber)
		}
		out = append(out, one)
	}
	slices.SortFunc(out, d.bootOrder)
	return out
}

// bootOrder puts the disks of the configured boot order first and the others in the order in which the firmware looks for them.
func (d devices) bootOrder(a, b disk) int {
	rank := func(x disk) int {
		if r, ok := d.bootRank[x.Key]; ok {
			return r
		}
		return len(d.bootRank) + 1
	}
	buses := []string{"scsi", "nvme", "sata", "ide"}
	return cmp.Or(
		cmp.Compare(rank(a), rank(b)),
		cmp.Compare(slices.Index(buses, a.on.bus), slices.Index(buses, b.on.bus)),
		cmp.Compare(a.on.number, b.on.number),
		cmp.Compare(a.unit, b.unit),
		cmp.Compare(a.Key, b.Key),
	)
}

func (d devices) disks() []driver.DiskInfo {
	all := d.virtualDisks()
	out := make([]driver.DiskInfo, len(all))
	for i, v := range all {
		out[i] = driver.DiskInfo{
			ID: diskID(v.Key), Label: label(v.VirtualDevice), File: v.file(), Capacity: v.capacity(),
			Bus: v.on.bus, Controller: v.on.number, Unit: v.unit, ControllerModel: v.on.model, Thin: v.thin(),
		}
	}
	return out
}

func diskID(key int32) string { return strconv.Itoa(int(key)) }

func label(d types.VirtualDevice) string {
	if d.DeviceInfo == nil {
		return "device " + diskID(d.Key)
	}
	return d.DeviceInfo.GetDescription().Label
}

func (d disk) capacity() int64 {
	if d.CapacityInBytes > 0 {
		return d.CapacityInBytes
	}
	return d.CapacityInKB << 10
}

func (d disk) file() string {
	if b, ok := d.Backing.(types.BaseVirtualDeviceFileBackingInfo); ok {
		return b.GetVirtualDeviceFileBackingInfo().FileName
	}
	return ""
}

func (d disk) thin() bool {
	switch b := d.Backing.(type) {
	case *types.VirtualDiskFlatVer2BackingInfo:
		return b.ThinProvisioned != nil && *b.ThinProvisioned
	case *types.VirtualDiskSeSparseBackingInfo, *types.VirtualDiskSparseVer2BackingInfo, *types.VirtualDiskSparseVer1BackingInfo:
		return true
	default:
		return false
	}
}

func (d devices) nics(networks map[string]string) []driver.NIC {
	var out []driver.NIC
	for _, dev := range d.all {
		base, ok := dev.(types.BaseVirtualEthernetCard)
		if !ok {
			continue
		}
		card := base.GetVirtualEthernetCard()
		out = append(out, driver.NIC{
			Label: label(card.VirtualDevice), MAC: strings.ToLower(card.MacAddress),
			Network: networkName(card.Backing, networks), Model: nicModel(dev),
			Connected: card.Connectable != nil && card.Connectable.StartConnected,
		})
	}
	return out
}

func networkName(b types.BaseVirtualDeviceBackingInfo, names map[string]string) string {
	switch b := b.(type) {
	case *types.VirtualEthernetCardNetworkBackingInfo:
		return b.DeviceName
	case *types.VirtualEthernetCardDistributedVirtualPortBackingInfo:
		// The key of a port group is its managed object id.
		return cmp.Or(names[b.Port.PortgroupKey], b.Port.PortgroupKey)
	case *types.VirtualEthernetCardOpaqueNetworkBackingInfo:
		return b.OpaqueNetworkId
	default:
		return ""
	}
}

func nicModel(dev types.BaseVirtualDevice) string {
	switch dev.(type) {
	case *types.VirtualE1000:
		return "e1000"
	case *types.VirtualE1000e:
		return "e1000e"
	case *types.VirtualVmxnet3, *types.VirtualVmxnet3Vrdma:
		return "vmxnet3"
	case *types.VirtualVmxnet2:
		return "vmxnet2"
	case *types.VirtualPCNet32:
		return "pcnet32"
	case *types.VirtualSriovEthernetCard:
		return "sriov"
	default:
		return "unknown"
	}
}
