package hypervisor

import (
	"net"
	"path/filepath"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// Limits of a Spec. They leave room below what QEMU's boards can address.
const (
	// MaxDisks and MaxNICs are how many disks and network cards a machine may have.
	MaxDisks = 64
	MaxNICs  = 32
	// MaxIDEDisks is the number of places on the two IDE channels of the pc board.
	MaxIDEDisks = 4
	// MinCPUMillis is the smallest limit that the kernel's scheduler can enforce.
	MinCPUMillis = 10
	// MinCPUPriority and MaxCPUPriority are the ends of nice(2).
	MinCPUPriority = -20
	MaxCPUPriority = 19
	// MemoryStep is what live memory grows by: guests use nothing smaller.
	MemoryStep = 128 << 20
	// maxNameBytes leaves room for the prefixes and suffixes that hosts put around a name to make file names of it.
	maxNameBytes = 200
)

// Resolve checks s and returns it with each automatic choice made for a host of the given architecture. Drivers define what it
// returns and nothing else, so every driver refuses and chooses the same. Errors are InvalidArgument and say what to change.
func (s Spec) Resolve(host Arch) (Spec, error) {
	for _, check := range []func(Spec) error{checkIdentity, checkSize, checkDisks, checkNICs, checkBoot, checkWatchdog} {
		if err := check(s); err != nil {
			return Spec{}, fault.As(fault.InvalidArgument, err, "machine %q", s.Name)
		}
	}
	s = s.resolveAuto(host)
	if err := checkBoard(s); err != nil {
		return Spec{}, fault.As(fault.InvalidArgument, err, "machine %q", s.Name)
	}
	return s, nil
}

func (s Spec) resolveAuto(host Arch) Spec {
	s.MaxCPUs, s.MaxMemoryBytes = max(s.MaxCPUs, s.CPUs), max(s.MaxMemoryBytes, s.MemoryBytes)
	if s.Arch == ArchAuto {
		s.Arch = host
	}
	if s.Machine == MachineAuto {
		switch {
		case s.Arch != ArchAMD64:
			s.Machine = MachineVirt
		case countIDE(s.Disks) > 0: // q35 has no IDE
			s.Machine = MachinePC
		default:
			s.Machine = MachineQ35
		}
	}
	if s.Firmware == FirmwareAuto {
		s.Firmware = FirmwareUEFI
		if s.Arch == ArchAMD64 {
			s.Firmware = FirmwareBIOS
		}
	}
	s.Disks = resolveCDROMs(s.Disks, s.Machine)
	return s
}

func checkIdentity(s Spec) error {
	if id, err := uuid.Parse(s.UUID); err != nil || id.String() != s.UUID || id == uuid.Nil {
		return invalid("UUID %q is not in canonical form", s.UUID)
	}
	return checkMachineName(s.Name)
}

func checkMachineName(name string) error {
	switch {
	case name == "" || len(name) > maxNameBytes:
		return invalid("a name has 1 to %d bytes, this one %d", maxNameBytes, len(name))
	case strings.Contains(name, "/"), name == ".", name == "..":
		return invalid("name %q cannot be a file's name", name)
	case strings.TrimSpace(name) != name:
		return invalid("name %q begins or ends with white space", name)
	}
	return checkText("name", name)
}

// checkText refuses what XML 1.0 cannot carry and what no path or command line needs.
func checkText(what, text string) error {
	if !utf8.ValidString(text) {
		return invalid("%s %q is not valid UTF-8", what, text)
	}
	for _, r := range text {
		if unicode.IsControl(r) || r == '\uFFFE' || r == '\uFFFF' {
			return invalid("%s %q has the control character %U", what, text, r)
		}
	}
	return nil
}

func checkPath(what, path string) error {
	if !filepath.IsAbs(path) {
		return invalid("%s %q is not an absolute path", what, path)
	}
	return checkText(what, path)
}

func checkSize(s Spec) error {
	switch {
	case s.CPUs == 0:
		return invalid("needs at least one CPU")
	case s.CPUMillis != 0 && s.CPUMillis < MinCPUMillis:
		return invalid("CPU limit %d is below %d thousandths of a processor", s.CPUMillis, MinCPUMillis)
	case s.MemoryBytes < 1<<20 || s.MemoryBytes%1024 != 0:
		return invalid("memory of %d bytes is below 1 MiB or no multiple of 1 KiB", s.MemoryBytes)
	case s.CPUPriority < MinCPUPriority || s.CPUPriority > MaxCPUPriority:
		return invalid("CPU priority %d is not between %d and %d", s.CPUPriority, MinCPUPriority, MaxCPUPriority)
	case s.MaxMemoryBytes > s.MemoryBytes && s.MaxMemoryBytes%(1<<20) != 0:
		return invalid("the most memory it can grow to, %d bytes, is no multiple of 1 MiB", s.MaxMemoryBytes)
	case s.Console > ConsoleVNC:
		return invalid("console %d is unknown", s.Console)
	}
	return nil
}

func checkNICs(s Spec) error {
	if len(s.NICs) > MaxNICs {
		return invalid("%d network cards are more than %d", len(s.NICs), MaxNICs)
	}
	seen := make(map[string]bool, len(s.NICs))
	for i, nic := range s.NICs {
		if err := checkNIC(nic); err != nil {
			return fault.Wrap(err, "network card %d", i)
		}
		if seen[nic.MAC] {
			return invalid("network card %d: another card has the MAC address %s", i, nic.MAC)
		}
		seen[nic.MAC] = true
	}
	return nil
}

func checkNIC(nic NIC) error {
	if err := checkMAC(nic.MAC); err != nil {
		return err
	}
	if (nic.Network == "") == (nic.Bridge == "") {
		return invalid("exactly one of network (%q) and bridge (%q) must be set", nic.Network, nic.Bridge)
	}
	if nic.Bridge != "" {
		if err := checkInterfaceName(nic.Bridge); err != nil {
			return err
		}
	} else if err := checkNetworkName(nic.Network); err != nil {
		return err
	}
	switch nic.Model {
	case "", "virtio":
		if nic.Queues > 256 {
			return invalid("%d queues are more than 256", nic.Queues)
		}
	case "e1000", "e1000e":
		if nic.Queues > 1 {
			return invalid("model %s has one queue, not %d; use virtio", nic.Model, nic.Queues)
		}
	default:
		return invalid("model %q is none of virtio, e1000, e1000e", nic.Model)
	}
	return nil
}

func checkMAC(text string) error {
	mac, err := net.ParseMAC(text)
	if err != nil || len(mac) != 6 || mac.String() != text {
		return invalid("MAC address %q is not six lower-case pairs joined by colons", text)
	}
	if mac[0]&1 != 0 || text == "00:00:00:00:00:00" {
		return invalid("MAC address %s is not that of one card", text)
	}
	return nil
}

func checkBoot(s Spec) error {
	if s.NetBoot && len(s.NICs) == 0 {
		return invalid("a boot from the network needs a network card")
	}
	if s.Kernel == "" {
		if s.Initrd != "" || s.CommandLine != "" {
			return invalid("an initrd or a command line needs a kernel")
		}
		return nil
	}
	if err := checkPath("kernel", s.Kernel); err != nil {
		return err
	}
	if s.Initrd != "" {
		if err := checkPath("initrd", s.Initrd); err != nil {
			return err
		}
	}
	return checkText("kernel command line", s.CommandLine)
}

func checkWatchdog(s Spec) error {
	if s.Watchdog == (Watchdog{}) {
		return nil
	}
	switch s.Watchdog.Model {
	case "ib700", "i6300esb":
	default:
		return invalid("watchdog model %q is none of ib700, i6300esb", s.Watchdog.Model)
	}
	switch s.Watchdog.Action {
	case "none", "reset", "shutdown", "poweroff":
		return nil
	default:
		return invalid("watchdog action %q is none of none, reset, shutdown, poweroff", s.Watchdog.Action)
	}
}

// checkBoard checks what depends on choices that Resolve has made.
func checkBoard(s Spec) error {
	onPC := s.Machine == MachinePC || s.Machine == MachineQ35
	switch {
	case s.Arch != ArchAMD64 && s.Arch != ArchARM64:
		return invalid("architecture %d is unknown", s.Arch)
	case s.Machine > MachineVirt || onPC != (s.Arch == ArchAMD64):
		return invalid("machine type %s does not exist for %s", s.Machine, s.Arch)
	case s.Firmware > FirmwareUEFI || s.Firmware == FirmwareBIOS && !onPC:
		return invalid("firmware %s does not exist for %s", s.Firmware, s.Arch)
	case s.Machine != MachinePC && countIDE(s.Disks) > 0:
		return invalid("machine type %s has no IDE; use machine type pc or another bus", s.Machine)
	case countCDROMs(s.Disks)+countIDE(s.Disks) > MaxIDEDisks && s.Machine == MachinePC:
		return invalid("%d IDE disks and CD-ROMs are more than %d", countCDROMs(s.Disks)+countIDE(s.Disks), MaxIDEDisks)
	case s.Machine == MachineVirt && countSATA(s.Disks) > 0:
		return invalid("machine type %s has no SATA; use another bus", s.Machine)
	case s.Watchdog.Model == "ib700" && !onPC:
		return invalid("watchdog ib700 needs an ISA bus, which machine type %s has not; use i6300esb", s.Machine)
	}
	return nil
}

func invalid(format string, args ...any) error {
	return fault.New(fault.InvalidArgument, format, args...)
}
