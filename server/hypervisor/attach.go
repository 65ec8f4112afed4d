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
		return fault.New(fault.FailedPrecondition, "disk %s: NVMe disks cannot be connected while the machine runs; use bus virtio or stop it first", d.File)
	}
	return nil
}

// CheckGrow reports what keeps a disk of a live machine from growing: the NVMe controller of QEMU does not tell guests of it (hw/nvme/ns.c has no callback
// for that).
func (d Disk) CheckGrow() error {
	if d.Bus == BusNVMe {
		return fault.New(fault.FailedPrecondition, "disk %s: the guest does not learn that an NVMe disk has grown; stop the machine first", d.File)
	}
	return nil
}

// CheckState reports what keeps the state of a live machine, which has s, from being moved or kept: that of the NVMe controller is none that QEMU can write
// (nvme_vmstate in its hw/nvme/ctrl.c).
func (s Spec) CheckState() error {
	for _, d := range s.Disks {
		if d.Bus == BusNVMe {
			return fault.New(fault.FailedPrecondition, "disk %s: the state of a machine with an NVMe disk cannot be moved or kept while it runs; stop it first", d.File)
		}
	}
	return nil
}
