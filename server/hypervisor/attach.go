package hypervisor

import "github.com/hyperplane-project/hyperplane/internal/fault"

// SectorSize is what the size of a disk is a multiple of, in bytes.
const SectorSize = 512

// CheckAttach reports what keeps a live machine, which has s, from getting a further disk, so that every driver refuses the same. See LiveDisks.AttachDisk.
func (s Spec) CheckAttach(d Disk) error {
	if err := checkDisk(d); err != nil {
		return err
	}
	for _, has := range s.Disks {
		if has.File == d.File {
			return fault.New(fault.AlreadyExists, "the machine has the disk %s already", d.File)
		}
	}
	switch {
	case len(s.Disks) >= MaxDisks:
		return fault.New(fault.FailedPrecondition, "the machine has %d disks, which is the most", len(s.Disks))
	case d.CDROM || d.Bus == BusIDE || d.Bus == BusSATA:
		return fault.New(fault.FailedPrecondition, "disk %s: ATA disks and CD-ROMs cannot be connected while the machine runs; use bus virtio or stop it first", d.File)
	case d.Bus == BusNVMe:
		return fault.New(fault.Unimplemented, "disk %s: bus nvme is not available; use virtio", d.File)
	}
	return nil
}
