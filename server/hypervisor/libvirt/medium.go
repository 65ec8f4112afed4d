package libvirt

import (
	"context"
	"encoding/xml"

	golibvirt "github.com/digitalocean/go-libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// ChangeMedium implements hypervisor.Appliances.
func (d *Driver) ChangeMedium(ctx context.Context, machine, device, file string) (string, error) {
	state, _, err := d.see(ctx, machine, nil)
	if err != nil {
		return "", err
	}
	if device == "" && state.Alive() {
		return "", fault.New(fault.FailedPrecondition, "machine %s: is %s and cannot be given a CD drive; stop it first", machine, state)
	}
	err = d.slow.do(ctx, func(c *conn) error {
		dom, err := lookup(c, machine)
		if err != nil {
			return err
		}
		if device == "" {
			device, err = newDrive(c, dom, file)
			return err
		}
		return changeMedium(c, dom, device, file, state.Alive())
	})
	return device, err
}

// changeMedium asks for no permission of the guest, which would take five seconds to fail if it has locked the drive.
func changeMedium(c *conn, dom golibvirt.Domain, device, file string, alive bool) error {
	def, err := readXML(c, dom, golibvirt.DomainXMLInactive|golibvirt.DomainXMLSecure)
	if err != nil {
		return err
	}
	disk, err := findDrive(def, device)
	if err != nil {
		return fault.Wrap(err, "machine %q", dom.Name)
	}
	fill(disk, file)
	text, err := xml.Marshal(disk)
	if err != nil {
		return fault.As(fault.Internal, err, "describe drive %s", device)
	}
	flags := golibvirt.DomainDeviceModifyConfig
	if alive {
		flags |= golibvirt.DomainDeviceModifyLive | golibvirt.DomainDeviceModifyForce
	}
	return classify(c.DomainUpdateDeviceFlags(dom, string(text), flags), "machine %q: drive %s: change what is in it", dom.Name, device)
}

func findDrive(def *libvirtxml.Domain, device string) (*libvirtxml.DomainDisk, error) {
	if def.Devices != nil {
		for i := range def.Devices.Disks {
			if disk := &def.Devices.Disks[i]; disk.Device == "cdrom" && deviceName(disk) == device {
				return disk, nil
			}
		}
	}
	return nil, fault.New(fault.NotFound, "has no CD drive %q", device)
}

func fill(disk *libvirtxml.DomainDisk, file string) {
	disk.Source, disk.BackingStore, disk.ReadOnly = nil, nil, &libvirtxml.DomainDiskReadOnly{}
	if file != "" {
		disk.Driver = &libvirtxml.DomainDiskDriver{Name: "qemu", Type: "raw"}
		disk.Source = &libvirtxml.DomainDiskSource{File: &libvirtxml.DomainDiskSourceFile{File: file}}
	}
}

func newDrive(c *conn, dom golibvirt.Domain, file string) (string, error) {
	def, err := readXML(c, dom, golibvirt.DomainXMLInactive|golibvirt.DomainXMLSecure)
	if err != nil {
		return "", err
	}
	device, err := addDrive(def, file)
	if err != nil {
		return "", fault.Wrap(err, "machine %q", dom.Name)
	}
	text, err := def.Marshal()
	if err != nil {
		return "", fault.As(fault.Internal, err, "machine %q: write its definition", dom.Name)
	}
	return device, defineText(c, hypervisor.Spec{Name: dom.Name}, text)
}

// addDrive gives a definition a CD drive where its board has them.
func addDrive(def *libvirtxml.Domain, file string) (device string, err error) {
	bus := hypervisor.BusSATA
	switch parseDomain(def).Machine {
	case hypervisor.MachinePC:
		bus = hypervisor.BusIDE
	case hypervisor.MachineVirt:
		bus = hypervisor.BusSCSI
	default:
	}
	prefix, err := targetPrefix(bus)
	if err != nil {
		return "", err
	}
	if def.Devices == nil {
		def.Devices = new(libvirtxml.DomainDeviceList)
	}
	taken := make(map[string]bool)
	for i := range def.Devices.Disks {
		taken[deviceName(&def.Devices.Disks[i])] = true
	}
	letter := 0
	for taken[prefix+driveLetters(letter)] {
		letter++
	}
	if bus == hypervisor.BusIDE && letter >= hypervisor.MaxIDEDisks {
		return "", fault.New(fault.FailedPrecondition, "has %d IDE disks and drives, which is the most", letter)
	}
	disk := libvirtxml.DomainDisk{Device: "cdrom", Target: &libvirtxml.DomainDiskTarget{Dev: prefix + driveLetters(letter), Bus: bus.String()}}
	fill(&disk, file)
	def.Devices.Disks = append(def.Devices.Disks, disk)
	return disk.Target.Dev, nil
}
