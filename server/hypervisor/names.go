package hypervisor

import "strconv"

// String returns the state's name in lower case.
func (s State) String() string {
	return nameOf(s, "off", "running", "paused", "stopping", "crashed")
}

// Alive reports whether a machine in this state has a process.
func (s State) Alive() bool { return s == Running || s == Paused || s == Stopping }

// String returns the architecture as Go and Debian call it.
func (a Arch) String() string { return nameOf(a, "auto", "amd64", "arm64") }

// String returns QEMU's name of the board.
func (m MachineType) String() string { return nameOf(m, "auto", "q35", "pc", "virt") }

// String returns the firmware's usual name.
func (f Firmware) String() string { return nameOf(f, "auto", "BIOS", "UEFI") }

// String returns the console's name in lower case.
func (c Console) String() string { return nameOf(c, "none", "dummy", "vnc") }

// String returns the format as qemu-img calls it.
func (f DiskFormat) String() string { return nameOf(f, "raw", "qcow2") }

// String returns the bus as libvirt calls it.
func (b DiskBus) String() string { return nameOf(b, "virtio", "ide", "sata", "scsi", "nvme") }

// nameOf returns the name at the value's place, or the number of a value that has none.
func nameOf[E ~uint8](value E, names ...string) string {
	if int(value) < len(names) {
		return names[value]
	}
	return strconv.Itoa(int(value))
}
