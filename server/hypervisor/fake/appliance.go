package fake

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// DescribeDefinition implements hypervisor.Appliances. UEFI machines of a fake keep no variables.
func (d *Driver) DescribeDefinition(definition []byte) (hypervisor.Appliance, error) {
	spec, err := parseSpec(definition)
	if err != nil {
		return hypervisor.Appliance{}, err
	}
	a := hypervisor.Appliance{UUID: spec.UUID, Name: spec.Name, CPUs: spec.CPUs, MemoryBytes: spec.MemoryBytes}
	for i, disk := range spec.Disks {
		if disk.CDROM {
			a.Drives = append(a.Drives, hypervisor.Drive{Device: deviceOf(i), File: medium(disk.File)})
			continue
		}
		a.Disks = append(a.Disks, hypervisor.ApplianceDisk{Target: deviceOf(i), File: disk.File, Source: "file", Format: disk.Format, ReadOnly: disk.ReadOnly})
	}
	for _, nic := range spec.NICs {
		a.MACs = append(a.MACs, nic.MAC)
	}
	return a, nil
}

func parseSpec(definition []byte) (spec hypervisor.Spec, err error) {
	if err := json.Unmarshal(definition, &spec); err != nil {
		return spec, fault.As(fault.InvalidArgument, err, "definition")
	}
	if spec.UUID == "" || spec.Name == "" {
		return spec, fault.New(fault.InvalidArgument, "definition: has no name or no UUID")
	}
	return spec, nil
}

// deviceOf names a disk by its place: sda, sdb ...
func deviceOf(place int) string { return fmt.Sprintf("sd%c", 'a'+place) }

// noMedium is the file of a CD drive that is empty, which exists on every host.
const noMedium = "/dev/null"

func medium(file string) string {
	if file == noMedium {
		return ""
	}
	return file
}

// ReviseDefinition implements hypervisor.Appliances.
func (d *Driver) ReviseDefinition(definition []byte, r hypervisor.Revision) ([]byte, error) {
	spec, err := parseSpec(definition)
	if err != nil {
		return nil, err
	}
	if r.Variables != "" {
		return nil, fault.New(fault.InvalidArgument, "definition of machine %q: it has no firmware variables", spec.Name)
	}
	if len(r.MACs) > 0 && len(r.MACs) != len(spec.NICs) {
		return nil, fault.New(fault.InvalidArgument, "definition of machine %q: it has %d network cards, not %d", spec.Name, len(spec.NICs), len(r.MACs))
	}
	if r.UUID != "" {
		spec.UUID = r.UUID
	}
	if r.Name != "" {
		spec.Name = r.Name
	}
	if r.CPUs > 0 {
		spec.CPUs, spec.MaxCPUs = r.CPUs, 0
	}
	if r.MemoryBytes > 0 {
		spec.MemoryBytes, spec.MaxMemoryBytes = r.MemoryBytes, 0
	}
	for i := range spec.NICs {
		if len(r.MACs) > 0 {
			spec.NICs[i].MAC = r.MACs[i]
		}
		if r.Network != "" {
			spec.NICs[i].Network, spec.NICs[i].Bridge = r.Network, ""
		}
	}
	for i := range spec.Disks {
		if r.Eject && spec.Disks[i].CDROM {
			spec.Disks[i].File = noMedium
		}
	}
	if r.Seed != "" {
		spec.Disks = append(spec.Disks, hypervisor.Disk{File: r.Seed, CDROM: true})
	}
	text, err := json.Marshal(spec)
	return text, fault.As(fault.Internal, err, "definition")
}

// SetAutostart implements hypervisor.Appliances.
func (d *Driver) SetAutostart(ctx context.Context, uuid string, on bool) error {
	return d.doMachine(ctx, MethodSetAutostart, uuid, func(h *Host, _ *machine) error {
		h.setAppliance(uuid, func(a *appliance) { a.autostart = on })
		return nil
	})
}

// Autostarts reports whether a machine starts with the host.
func (h *Host) Autostarts(uuid string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.appliances[uuid].autostart
}

// ChangeMedium implements hypervisor.Appliances.
func (d *Driver) ChangeMedium(ctx context.Context, uuid, device, file string) (string, error) {
	if file == "" {
		file = noMedium
	}
	err := d.doMachine(ctx, MethodChangeMedium, uuid, func(_ *Host, m *machine) error {
		if device == "" {
			if m.state.Alive() {
				return fault.New(fault.FailedPrecondition, "machine %s: is %s and cannot be given a CD drive; stop it first", uuid, m.state)
			}
			device = deviceOf(len(m.spec.Disks))
			m.spec.Disks = append(slices.Clone(m.spec.Disks), hypervisor.Disk{File: file, CDROM: true, ReadOnly: true, Bus: hypervisor.BusSATA})
			return nil
		}
		for i := range m.spec.Disks {
			if m.spec.Disks[i].CDROM && deviceOf(i) == device {
				m.spec.Disks = slices.Clone(m.spec.Disks)
				m.spec.Disks[i].File = file
				return nil
			}
		}
		return fault.New(fault.NotFound, "machine %q: has no CD drive %q", m.spec.Name, device)
	})
	return device, err
}

// appliance is what a fake keeps of a machine for Appliances.
type appliance struct {
	autostart   bool
	checkpoints []string
	copying     bool
}

// setAppliance changes what is kept of a machine. The host's mutex is held.
func (h *Host) setAppliance(uuid string, change func(*appliance)) {
	if h.appliances == nil {
		h.appliances = make(map[string]appliance)
	}
	a := h.appliances[uuid]
	a.checkpoints = slices.Clone(a.checkpoints)
	change(&a)
	h.appliances[uuid] = a
}

// DropCheckpoint implements hypervisor.Appliances.
func (d *Driver) DropCheckpoint(ctx context.Context, uuid, name string) error {
	return d.do(ctx, MethodDropCheckpoint, func(h *Host) error {
		if _, known := h.appliances[uuid]; known {
			h.setAppliance(uuid, func(a *appliance) {
				a.checkpoints = slices.DeleteFunc(a.checkpoints, func(c string) bool { return strings.EqualFold(c, name) })
			})
		}
		return nil
	})
}

// AbandonCopies implements hypervisor.Appliances. Copies of a fake end with their caller.
func (d *Driver) AbandonCopies(ctx context.Context, _ string) error {
	return d.do(ctx, MethodAbandonCopies, func(*Host) error { return nil })
}
