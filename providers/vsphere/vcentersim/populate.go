package vcentersim

import (
	"cmp"
	"context"
	"net/url"
	"path"
	"reflect"
	"strconv"

	"github.com/vmware/govmomi"
	"github.com/vmware/govmomi/find"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// builder makes the VMs of the configuration through the API, as a client would.
type builder struct {
	sim     *Simulator
	finder  *find.Finder
	folder  *object.Folder
	pool    *object.ResourcePool
	store   *object.Datastore
	folders map[string]*object.Folder
}

func (s *Simulator) populate(ctx context.Context) error {
	u, err := url.Parse(s.URL())
	if err != nil {
		return err
	}
	u.User = url.UserPassword(s.cfg.Username, s.cfg.Password)
	if s.admin, err = govmomi.NewClient(ctx, u, true); err != nil {
		return err
	}
	b := &builder{sim: s, finder: find.NewFinder(s.admin.Client), folders: make(map[string]*object.Folder)}
	dc, err := b.finder.DefaultDatacenter(ctx)
	if err != nil {
		return err
	}
	b.finder.SetDatacenter(dc)
	top, err := dc.Folders(ctx)
	if err != nil {
		return err
	}
	b.folder = top.VmFolder
	if b.pool, err = b.finder.DefaultResourcePool(ctx); err != nil {
		return err
	}
	if b.store, err = b.finder.DefaultDatastore(ctx); err != nil {
		return err
	}
	for _, vm := range s.cfg.VMs {
		if err := b.make(ctx, vm); err != nil {
			return fault.Wrap(err, "vcentersim: make vm %q", vm.Name)
		}
	}
	s.forget() // what was recorded is our own doing
	return nil
}

func (b *builder) make(ctx context.Context, vm VM) error {
	spec, err := b.spec(ctx, vm)
	if err != nil {
		return err
	}
	folder, err := b.folderAt(ctx, vm.Folder)
	if err != nil {
		return err
	}
	task, err := folder.CreateVM(ctx, spec, b.pool, nil)
	if err != nil {
		return err
	}
	info, err := task.WaitForResult(ctx)
	if err != nil {
		return err
	}
	ref := info.Result.(types.ManagedObjectReference)
	b.sim.adopt(ref, vm)
	if vm.PoweredOn {
		return b.sim.SetPower(ctx, vm.Name, true)
	}
	return nil
}

// folderAt returns the folder of VMs at a path below the datacenter's, making what is missing.
func (b *builder) folderAt(ctx context.Context, at string) (*object.Folder, error) {
	if at = path.Clean("/" + at); at == "/" {
		return b.folder, nil
	}
	if f := b.folders[at]; f != nil {
		return f, nil
	}
	parent, err := b.folderAt(ctx, path.Dir(at))
	if err != nil {
		return nil, err
	}
	f, err := parent.CreateFolder(ctx, path.Base(at))
	b.folders[at] = f
	return f, err
}

func (b *builder) spec(ctx context.Context, vm VM) (types.VirtualMachineConfigSpec, error) {
	spec := types.VirtualMachineConfigSpec{
		Name: vm.Name, NumCPUs: cmp.Or(vm.CPUs, 1), MemoryMB: cmp.Or(vm.MemoryMB, 128),
		GuestId:  cmp.Or(vm.GuestID, string(types.VirtualMachineGuestOsIdentifierOtherGuest64)),
		Firmware: cmp.Or(vm.Firmware, "bios"),
		Files:    &types.VirtualMachineFileInfo{VmPathName: "[" + b.store.Name() + "]"},
	}
	if vm.SecureBoot {
		spec.BootOptions = &types.VirtualMachineBootOptions{EfiSecureBootEnabled: new(true)}
	}
	var devices object.VirtualDeviceList
	var err error
	for _, d := range vm.Disks {
		if devices, err = addDisk(devices, d, b.store.Reference()); err != nil {
			return spec, err
		}
	}
	for _, n := range vm.NICs {
		if devices, err = b.addNIC(ctx, devices, n); err != nil {
			return spec, err
		}
	}
	spec.DeviceChange, err = devices.ConfigSpec(types.VirtualDeviceConfigSpecOperationAdd)
	return spec, err
}

func addDisk(devices object.VirtualDeviceList, d Disk, store types.ManagedObjectReference) (object.VirtualDeviceList, error) {
	devices, c, err := controllerFor(devices, d)
	if err != nil {
		return nil, err
	}
	disk := devices.CreateDisk(c, store, "")
	disk.CapacityInBytes = d.Content.Info().VirtualSize
	disk.CapacityInKB = (disk.CapacityInBytes + 1023) >> 10
	backing := disk.Backing.(*types.VirtualDiskFlatVer2BackingInfo)
	backing.ThinProvisioned = new(!d.Thick)
	backing.DiskMode = cmp.Or(d.Mode, backing.DiskMode)
	backing.Sharing = d.Sharing
	return append(devices, disk), nil
}

// controllerFor returns a controller for the disk, adding it where the list has none of the kind.
func controllerFor(devices object.VirtualDeviceList, d Disk) (object.VirtualDeviceList, types.BaseVirtualController, error) {
	var c types.BaseVirtualDevice
	var err error
	switch d.Bus {
	case "", "scsi":
		c, err = devices.CreateSCSIController(cmp.Or(d.Controller, "pvscsi"))
	case "sata":
		c, err = devices.CreateSATAController()
	case "nvme":
		c, err = devices.CreateNVMEController()
	case "ide":
		c, err = devices.CreateIDEController()
	default:
		return nil, nil, fault.New(fault.InvalidArgument, "bus %q is not supported; use scsi, sata, nvme or ide", d.Bus)
	}
	if err != nil {
		return nil, nil, fault.As(fault.InvalidArgument, err, "controller")
	}
	for _, have := range devices {
		if reflect.TypeOf(have) == reflect.TypeOf(c) {
			return devices, have.(types.BaseVirtualController), nil
		}
	}
	return append(devices, c), c.(types.BaseVirtualController), nil
}

func (b *builder) addNIC(ctx context.Context, devices object.VirtualDeviceList, n NIC) (object.VirtualDeviceList, error) {
	net, err := b.finder.Network(ctx, cmp.Or(n.Network, "VM Network"))
	if err != nil {
		return nil, fault.As(fault.InvalidArgument, err, "network")
	}
	backing, err := net.EthernetCardBackingInfo(ctx)
	if err != nil {
		return nil, err
	}
	dev, err := devices.CreateEthernetCard(cmp.Or(n.Model, "vmxnet3"), backing)
	if err != nil {
		return nil, fault.As(fault.InvalidArgument, err, "network card")
	}
	card := dev.(types.BaseVirtualEthernetCard).GetVirtualEthernetCard()
	if n.MAC != "" {
		card.MacAddress, card.AddressType = n.MAC, string(types.VirtualEthernetCardMacTypeManual)
	}
	card.Connectable = &types.VirtualDeviceConnectInfo{StartConnected: true, AllowGuestControl: true}
	return append(devices, dev), nil
}

// adopt puts content behind the disks of a VM that was just made. They are listed in the order in which they were added.
func (s *Simulator) adopt(ref types.ManagedObjectReference, cfg VM) {
	m := &machine{ref: ref, name: cfg.Name}
	reg := s.model.Map()
	vm := reg.Get(ref).(*simulator.VirtualMachine)
	reg.WithLock(&simulator.Context{Context: s.ctx, Map: reg}, vm, func() {
		devices := object.VirtualDeviceList(vm.Config.Hardware.Device)
		for i, dev := range devices.SelectByType((*types.VirtualDisk)(nil)) {
			v := dev.(*types.VirtualDisk)
			m.disks = append(m.disks, &disk{
				machine: m, index: i, key: v.Key, slot: slot(devices, v),
				file:    v.Backing.(types.BaseVirtualDeviceFileBackingInfo).GetVirtualDeviceFileBackingInfo().FileName,
				content: &content{base: cfg.Disks[i].Content},
			})
		}
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.machines[ref] = m
}

// slot names the place of a disk as vCenter does in the keys of leases: the controller's type and bus number, and the unit.
func slot(devices object.VirtualDeviceList, d *types.VirtualDisk) string {
	c := devices.FindByKey(d.ControllerKey)
	unit := int32(0)
	if d.UnitNumber != nil {
		unit = *d.UnitNumber
	}
	number := c.(types.BaseVirtualController).GetVirtualController().BusNumber
	return devices.TypeName(c) + strconv.Itoa(int(number)) + ":" + strconv.Itoa(int(unit))
}
