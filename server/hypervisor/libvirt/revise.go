package libvirt

import (
	"slices"
	"strings"

	"github.com/google/uuid"
	"libvirt.org/go/libvirtxml"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// ReviseDefinition implements hypervisor.Appliances.
func (d *Driver) ReviseDefinition(text []byte, r hypervisor.Revision) ([]byte, error) {
	x, err := parseDefinition(text)
	if err != nil {
		return nil, err
	}
	if x.Devices == nil {
		x.Devices = new(libvirtxml.DomainDeviceList)
	}
	e := revision{x: x, Revision: r}
	for _, change := range []func() error{e.identity, e.size, e.cards, e.drives} {
		if err := change(); err != nil {
			return nil, fault.Wrap(err, "definition of machine %q", x.Name)
		}
	}
	changed, err := x.Marshal()
	return []byte(changed), fault.As(fault.Internal, err, "definition of machine %q", x.Name)
}

// revision is the change of one definition.
type revision struct {
	hypervisor.Revision
	x *libvirtxml.Domain
}

func (e revision) identity() error {
	old := e.x.UUID
	if e.Name != "" {
		e.x.Name, e.x.Title = e.Name, ""
	}
	if e.Variables != "" {
		if e.x.OS == nil || e.x.OS.NVRam == nil {
			return fault.New(fault.InvalidArgument, "it has no firmware variables")
		}
		e.x.OS.NVRam.Source, e.x.OS.NVRam.NVRam = nil, e.Variables
	}
	if e.UUID == "" || e.UUID == old {
		return nil
	}
	e.x.UUID = e.UUID
	if e.x.GenID != nil && e.x.GenID.Value != "" {
		e.x.GenID.Value = uuid.NewString() // it tells the guest that it was copied
	}
	for i := range e.x.SysInfo {
		if s := e.x.SysInfo[i].SMBIOS; s != nil && s.System != nil {
			s.System.Entry = slices.DeleteFunc(s.System.Entry, func(entry libvirtxml.DomainSysInfoEntry) bool { return entry.Name == "uuid" })
		}
	}
	e.sockets(old)
	return nil
}

// sockets moves what is bound on the host: a second machine could not start with it.
func (e revision) sockets(old string) {
	for i := range e.x.Devices.Serials {
		e.chardev(e.x.Devices.Serials[i].Source, e.x.Devices.Serials[i].Log, old)
	}
	for i := range e.x.Devices.Parallels {
		e.chardev(e.x.Devices.Parallels[i].Source, e.x.Devices.Parallels[i].Log, old)
	}
	for i := range e.x.Devices.Consoles {
		e.chardev(e.x.Devices.Consoles[i].Source, e.x.Devices.Consoles[i].Log, old)
	}
	for i := range e.x.Devices.Channels {
		e.chardev(e.x.Devices.Channels[i].Source, e.x.Devices.Channels[i].Log, old)
	}
	for i := range e.x.Devices.Graphics {
		g := &e.x.Devices.Graphics[i]
		if v := g.VNC; v != nil {
			v.Socket = e.place(v.Socket, old)
			e.listeners(v.Listeners, old)
			if v.Port > 0 {
				v.Port, v.AutoPort, v.WebSocket = -1, "yes", 0
			}
		}
		if s := g.Spice; s != nil {
			e.listeners(s.Listeners, old)
			if s.Port > 0 || s.TLSPort > 0 {
				s.Port, s.TLSPort, s.AutoPort = 0, 0, "yes"
			}
		}
	}
}

func (e revision) chardev(s *libvirtxml.DomainChardevSource, log *libvirtxml.DomainChardevLog, old string) {
	if s != nil && s.UNIX != nil && s.UNIX.Mode != "connect" {
		s.UNIX.Path = e.place(s.UNIX.Path, old)
	}
	if s != nil && s.File != nil {
		s.File.Path = e.place(s.File.Path, old)
	}
	if log != nil {
		log.File = e.place(log.File, old)
	}
}

func (e revision) listeners(all []libvirtxml.DomainGraphicListener, old string) {
	for i := range all {
		if s := all[i].Socket; s != nil {
			s.Socket = e.place(s.Socket, old)
		}
	}
}

// place is where the file of another machine lies for this one.
func (e revision) place(path, old string) string {
	switch {
	case path == "":
		return ""
	case strings.Contains(path, old):
		return strings.ReplaceAll(path, old, e.UUID)
	default:
		return path + "-" + e.UUID[:8]
	}
}

func (e revision) size() error {
	if e.CPUs > 0 {
		if e.x.CPU != nil && e.x.CPU.Numa != nil {
			return fault.New(fault.FailedPrecondition, "its processors belong to NUMA nodes; their number cannot be changed")
		}
		e.x.VCPU, e.x.VCPUs = &libvirtxml.DomainVCPU{Value: uint(e.CPUs)}, nil
		if e.x.CPU != nil {
			e.x.CPU.Topology = nil
		}
	}
	if e.MemoryBytes == 0 {
		return nil
	}
	if len(e.x.Devices.Memorydevs) > 0 || e.x.CPU != nil && e.x.CPU.Numa != nil {
		return fault.New(fault.FailedPrecondition, "it has memory modules or NUMA nodes; its memory cannot be changed")
	}
	kib := uint(e.MemoryBytes >> 10)
	e.x.Memory, e.x.CurrentMemory, e.x.MaximumMemory = &libvirtxml.DomainMemory{Value: kib, Unit: "KiB"}, nil, nil
	return nil
}

func (e revision) cards() error {
	if len(e.MACs) > 0 && len(e.MACs) != len(e.x.Devices.Interfaces) {
		return fault.New(fault.InvalidArgument, "it has %d network cards, not %d", len(e.x.Devices.Interfaces), len(e.MACs))
	}
	for i := range e.x.Devices.Interfaces {
		nic := &e.x.Devices.Interfaces[i]
		if len(e.MACs) > 0 {
			nic.MAC = &libvirtxml.DomainInterfaceMAC{Address: e.MACs[i]}
		}
		if e.UUID != "" {
			nic.Target = nil // the host's end
		}
		if e.Network != "" {
			nic.Source = &libvirtxml.DomainInterfaceSource{Network: &libvirtxml.DomainInterfaceSourceNetwork{Network: e.Network}}
			nic.VirtualPort, nic.Target = nil, nil
		}
	}
	return nil
}

func (e revision) drives() error {
	if e.Eject {
		for i := range e.x.Devices.Disks {
			if disk := &e.x.Devices.Disks[i]; disk.Device == "cdrom" {
				disk.Source = nil
			}
		}
	}
	if e.Seed == "" {
		return nil
	}
	_, err := addDrive(e.x, e.Seed)
	return err
}
