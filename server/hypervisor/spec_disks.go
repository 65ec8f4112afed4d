package hypervisor

import (
	"slices"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// CheckDisks reports what of its disks a machine on a host of the given architecture cannot have. Of the Spec only the board and the disks count.
func (s Spec) CheckDisks(host Arch) error {
	if err := checkDisks(s); err != nil {
		return err
	}
	return checkBoard(s.resolveAuto(host))
}

// CheckDisks reports which of the disks a host cannot have: Unimplemented, with what it lacks.
func (h Host) CheckDisks(disks []Disk) error {
	if i := slices.IndexFunc(disks, func(d Disk) bool { return d.Bus == BusNVMe }); i >= 0 && h.NoNVMe != "" {
		return fault.New(fault.Unimplemented, "disk %s: bus nvme is not available on this host: %s; use virtio", disks[i].File, h.NoNVMe)
	}
	return nil
}

// resolveCDROMs puts CD-ROMs on the bus where the board has them.
func resolveCDROMs(disks []Disk, machine MachineType) []Disk {
	disks = slices.Clone(disks)
	for i := range disks {
		if !disks[i].CDROM {
			continue
		}
		disks[i].ReadOnly = true
		switch machine {
		case MachinePC:
			disks[i].Bus = BusIDE
		case MachineVirt:
			disks[i].Bus = BusSCSI
		default:
			disks[i].Bus = BusSATA
		}
	}
	return disks
}

func checkDisks(s Spec) error {
	if len(s.Disks) > MaxDisks {
		return invalid("%d disks are more than %d", len(s.Disks), MaxDisks)
	}
	if n := countIDE(s.Disks); n > MaxIDEDisks {
		return invalid("%d IDE disks are more than %d", n, MaxIDEDisks)
	}
	if len(s.Disks) > 0 && s.Disks[0].CDROM {
		return invalid("the first disk (%s) cannot be a CD-ROM", s.Disks[0].File)
	}
	writable := make(map[string]bool, len(s.Disks))
	for i, d := range s.Disks {
		if err := checkDisk(d); err != nil {
			return fault.Wrap(err, "disk %d", i)
		}
		if other, twice := writable[d.File]; twice && (other || !d.readOnly()) {
			return invalid("disk %s is attached twice and written to", d.File)
		}
		writable[d.File] = writable[d.File] || !d.readOnly()
	}
	return nil
}

func checkDisk(d Disk) error {
	if err := checkPath("disk", d.File); err != nil {
		return err
	}
	if d.Format > DiskQCOW2 || d.Bus > BusNVMe {
		return invalid("%s: format %d or bus %d is unknown", d.File, d.Format, d.Bus)
	}
	if d.ReadOnly && !d.CDROM && (d.Bus == BusIDE || d.Bus == BusSATA) {
		return invalid("%s: ATA disks cannot be read-only; use bus virtio or scsi", d.File)
	}
	return nil
}

func (d Disk) readOnly() bool { return d.ReadOnly || d.CDROM }

// countIDE and countSATA count disks on these buses, without CD-ROMs.
func countIDE(disks []Disk) int {
	return count(disks, func(d Disk) bool { return d.Bus == BusIDE && !d.CDROM })
}

func countSATA(disks []Disk) int {
	return count(disks, func(d Disk) bool { return d.Bus == BusSATA && !d.CDROM })
}

func countCDROMs(disks []Disk) int { return count(disks, func(d Disk) bool { return d.CDROM }) }

func count(disks []Disk, is func(Disk) bool) (n int) {
	for _, d := range disks {
		if is(d) {
			n++
		}
	}
	return n
}
