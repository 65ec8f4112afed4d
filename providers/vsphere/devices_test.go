package vsphere

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/hyperplane-project/hyperplane/providers/driver"
)

func scsi(sharing types.VirtualSCSISharing) *types.ParaVirtualSCSIController {
	c := new(types.ParaVirtualSCSIController)
	c.Key, c.SharedBus = 1000, sharing
	return c
}

func device(key, controller, unit int32, label string) types.VirtualDevice {
	return types.VirtualDevice{
		Key: key, ControllerKey: controller, UnitNumber: &unit,
		DeviceInfo: &types.Description{Label: label},
	}
}

func flat(key, controller, unit int32, change func(*types.VirtualDiskFlatVer2BackingInfo)) *types.VirtualDisk {
	d := &types.VirtualDisk{VirtualDevice: device(key, controller, unit, "Hard disk "+diskID(key)), CapacityInBytes: 1 << 30}
	b := &types.VirtualDiskFlatVer2BackingInfo{DiskMode: "persistent", Sharing: "sharingNone", ThinProvisioned: new(true)}
	b.FileName = "[ds] vm/" + diskID(key) + ".vmdk"
	if change != nil {
		change(b)
	}
	d.Backing = b
	return d
}

func configOf(devs ...types.BaseVirtualDevice) types.VirtualMachineConfigInfo {
	return types.VirtualMachineConfigInfo{Hardware: types.VirtualHardware{Device: devs}}
}

func TestDisksComeInBootOrder(t *testing.T) {
	t.Parallel()
	ide := &types.VirtualIDEController{VirtualController: types.VirtualController{VirtualDevice: types.VirtualDevice{Key: 200}, BusNumber: 0}}
	ahci := new(types.VirtualAHCIController)
	ahci.Key = 15000
	nvme := new(types.VirtualNVMEController)
	nvme.Key = 31000
	lsi := new(types.VirtualLsiLogicSASController)
	lsi.Key, lsi.BusNumber = 1001, 1
	cfg := configOf(
		ide, ahci, nvme, lsi, scsi(types.VirtualSCSISharingNoSharing),
		flat(3000, 200, 0, nil), flat(16000, 15000, 0, nil), flat(32000, 31000, 0, nil),
		flat(2016, 1001, 0, nil), flat(2001, 1000, 1, nil), flat(2000, 1000, 0, nil),
	)
	order := func() []string {
		var ids []string
		for _, d := range newDevices(cfg).disks() {
			ids = append(ids, d.ID)
		}
		return ids
	}
	if diff := cmp.Diff([]string{"2000", "2001", "2016", "32000", "16000", "3000"}, order()); diff != "" {
		t.Errorf("without a configured order (-want +got):\n%s", diff)
	}
	cfg.BootOptions = &types.VirtualMachineBootOptions{BootOrder: []types.BaseVirtualMachineBootOptionsBootableDevice{
		&types.VirtualMachineBootOptionsBootableEthernetDevice{DeviceKey: 4000},
		&types.VirtualMachineBootOptionsBootableDiskDevice{DeviceKey: 3000},
		&types.VirtualMachineBootOptionsBootableDiskDevice{DeviceKey: 2016},
	}}
	if diff := cmp.Diff([]string{"3000", "2016", "2000", "2001", "32000", "16000"}, order()); diff != "" {
		t.Errorf("with a configured order (-want +got):\n%s", diff)
	}
	want := driver.DiskInfo{
		ID: "2016", Label: "Hard disk 2016", File: "[ds] vm/2016.vmdk", Capacity: 1 << 30,
		Bus: "scsi", Controller: 1, ControllerModel: "lsilogic-sas", Thin: true,
	}
	if diff := cmp.Diff(want, newDevices(cfg).disks()[1]); diff != "" {
		t.Errorf("disk (-want +got):\n%s", diff)
	}
	var slots []string
	for _, d := range newDevices(cfg).virtualDisks() {
		slots = append(slots, d.slot())
	}
	wantSlots := []string{
		"VirtualIDEController0:0", "VirtualLsiLogicSASController1:0", "ParaVirtualSCSIController0:0", "ParaVirtualSCSIController0:1",
		"VirtualNVMEController0:0", "VirtualAHCIController0:0",
	}
	if diff := cmp.Diff(wantSlots, slots); diff != "" {
		t.Errorf("slots (-want +got):\n%s", diff)
	}
}

func TestBlockers(t *testing.T) {
	t.Parallel()
	rdm := flat(2000, 1000, 0, nil)
	rdm.Backing = &types.VirtualDiskRawDiskMappingVer1BackingInfo{CompatibilityMode: "physicalMode"}
	ctl := scsi(types.VirtualSCSISharingNoSharing)
	type backingInfo = types.VirtualDiskFlatVer2BackingInfo
	encrypted := configOf(ctl, flat(2000, 1000, 0, nil))
	encrypted.KeyId = &types.CryptoKeyId{KeyId: "k"}
	for name, test := range map[string]struct {
		cfg     types.VirtualMachineConfigInfo
		off, on string // what the blocker says, "" for none
	}{
		"plain":        {cfg: configOf(ctl, flat(2000, 1000, 0, nil))},
		"raw":          {configOf(ctl, rdm), "raw device", "raw device"},
		"multi-writer": {configOf(ctl, flat(2000, 1000, 0, func(b *backingInfo) { b.Sharing = "sharingMultiWriter" })), "multi-writer", "multi-writer"},
		"shared bus":   {configOf(scsi(types.VirtualSCSISharingPhysicalSharing), flat(2000, 1000, 0, nil)), "shares the bus", "shares the bus"},
		"independent":  {configOf(ctl, flat(2000, 1000, 0, func(b *backingInfo) { b.DiskMode = "independent_persistent" })), "", "independent"},
		"encrypted VM": {encrypted, "encrypted", "encrypted"},
		"encrypted disk": {
			configOf(ctl, flat(2000, 1000, 0, func(b *backingInfo) { b.KeyId = &types.CryptoKeyId{KeyId: "k"} })),
			"encrypted", "encrypted",
		},
	} {
		for power, want := range map[driver.PowerState]string{driver.PowerOff: test.off, driver.PowerOn: test.on, driver.PowerSuspended: test.on} {
			got := newDevices(test.cfg).blockers(power)
			switch {
			case want == "" && len(got) > 0:
				t.Errorf("%s: power state %d: blocked by %q", name, power, got)
			case want != "" && (len(got) != 1 || !strings.Contains(got[0], want)):
				t.Errorf("%s: power state %d: blocked by %q, want one that says %q", name, power, got, want)
			}
		}
	}
}

func TestNICs(t *testing.T) {
	t.Parallel()
	standard := &types.VirtualVmxnet3{}
	standard.VirtualDevice = device(4000, 100, 7, "Network adapter 1")
	standard.MacAddress = "00:50:56:AB:CD:EF"
	standard.Connectable = &types.VirtualDeviceConnectInfo{StartConnected: true}
	standard.Backing = &types.VirtualEthernetCardNetworkBackingInfo{VirtualDeviceDeviceBackingInfo: types.VirtualDeviceDeviceBackingInfo{DeviceName: "VM Network"}}
	distributed := &types.VirtualE1000e{}
	distributed.VirtualDevice = device(4001, 100, 8, "Network adapter 2")
	distributed.Backing = &types.VirtualEthernetCardDistributedVirtualPortBackingInfo{Port: types.DistributedVirtualSwitchPortConnection{PortgroupKey: "dvportgroup-7"}}
	unknown := &types.VirtualE1000{}
	unknown.VirtualDevice = device(4002, 100, 9, "Network adapter 3")
	unknown.Backing = &types.VirtualEthernetCardDistributedVirtualPortBackingInfo{Port: types.DistributedVirtualSwitchPortConnection{PortgroupKey: "dvportgroup-8"}}
	got := newDevices(configOf(standard, distributed, unknown)).nics(map[string]string{"dvportgroup-7": "prod/web"})
	want := []driver.NIC{
		{Label: "Network adapter 1", MAC: "00:50:56:ab:cd:ef", Network: "VM Network", Model: "vmxnet3", Connected: true},
		{Label: "Network adapter 2", Network: "prod/web", Model: "e1000e"},
		{Label: "Network adapter 3", Network: "dvportgroup-8", Model: "e1000"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("NICs (-want +got):\n%s", diff)
	}
}
