package libvirt_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hyperplane-project/hyperplane/server/hypervisor"
	"github.com/hyperplane-project/hyperplane/test/guest"
	"github.com/hyperplane-project/hyperplane/test/privatelibvirt"
)

func withDisk(t *testing.T) func(*hypervisor.Spec) {
	t.Helper()
	return func(s *hypervisor.Spec) {
		s.MemoryBytes = 128 << 20
		s.Disks = []hypervisor.Disk{{File: guest.Image(t), Format: hypervisor.DiskQCOW2}}
	}
}

func blankDisk(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "blank.raw")
	if err := os.WriteFile(file, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestGuestBoots(t *testing.T) {
	t.Parallel()
	_, d, _ := sharedLibvirt(t)
	for name, test := range map[string]struct {
		change func(*hypervisor.Spec)
		want   string
	}{
		"BIOS on pc": {func(s *hypervisor.Spec) {
			s.Machine, s.Disks = hypervisor.MachinePC, append(s.Disks, hypervisor.Disk{File: blankDisk(t), Bus: hypervisor.BusIDE})
		}, "firmware=bios cpus=1 "},
		"UEFI from SCSI": {func(s *hypervisor.Spec) {
			s.Firmware, s.MemoryBytes, s.Disks[0].Bus = hypervisor.FirmwareUEFI, 256<<20, hypervisor.BusSCSI
		}, "firmware=uefi cpus=1 "},
		"BIOS on pc from NVMe": {func(s *hypervisor.Spec) {
			s.Machine, s.Disks[0].Bus = hypervisor.MachinePC, hypervisor.BusNVMe
		}, "firmware=bios cpus=1 "},
		"UEFI from the first of two": {func(s *hypervisor.Spec) {
			s.Firmware, s.MemoryBytes = hypervisor.FirmwareUEFI, 256<<20
			s.Disks[0].Bus, s.Disks = hypervisor.BusNVMe, append(s.Disks, hypervisor.Disk{File: blankDisk(t)})
		}, "firmware=uefi cpus=1 "},
		"kernel without a disk": {func(s *hypervisor.Spec) {
			files := guest.Cache(t)
			s.Disks, s.Kernel, s.Initrd, s.CommandLine = nil, files.Kernel, files.Initrd, guest.CommandLine
		}, "firmware=bios cpus=1 "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t, d, func(s *hypervisor.Spec) {
				withDisk(t)(s)
				test.change(s)
			})
			m.start()
			p := m.serial()
			if line := p.await("GUEST BOOT", "GUEST READY")[0]; !strings.Contains(line, "marker="+guest.Marker+" "+test.want) {
				t.Errorf("the guest said %q, without %q", line, test.want)
			}
			p.say("echo hi")
			p.await("ECHO:hi")
			m.must(d.Shutdown(t.Context(), m.spec.UUID))
			p.await("GUEST POWEROFF")
			m.awaitState(hypervisor.Off)
		})
	}
}

// TestGuestGrows gives a guest a processor and memory, which it finds without a restart.
func TestGuestGrows(t *testing.T) {
	t.Parallel()
	_, d, _ := sharedLibvirt(t)
	m := newMachine(t, d, func(s *hypervisor.Spec) {
		withDisk(t)(s)
		s.MemoryBytes, s.MaxCPUs, s.MaxMemoryBytes = 256<<20, 2, 1<<30 // Linux sets 64 MiB aside if memory may come above 4 GiB
	})
	m.start()
	p := m.serial()
	p.await("GUEST READY")
	grown := m.spec.Resources()
	grown.CPUs, grown.MemoryBytes = 2, grown.MemoryBytes+2*hypervisor.MemoryStep
	m.must(d.Adjust(t.Context(), m.spec.UUID, grown))
	// The sums tell the answers from the echo of the questions.
	p.say("until grep -q 0-1 /sys/devices/system/cpu/present; do :; done; echo processors=$((1+1))")
	p.await("processors=2")
	p.say("until [ $(ls /sys/devices/system/memory | grep -c memory[0-9]) = 4 ]; do :; done; echo blocks=$((2+2))")
	p.await("blocks=4")
}

// TestGuestOnTheNetwork dials a guest with two queue pairs at the address it was leased, across a restart of libvirtd.
func TestGuestOnTheNetwork(t *testing.T) {
	t.Parallel()
	inst := privatelibvirt.New(t, privatelibvirt.Options{})
	d := open(t, inst, runDir(t))
	network := hypervisor.Network{
		Name: "net", Bridge: "hpnet", Gateway: netip.MustParsePrefix("10.99.0.1/24"), Domain: "example.org",
		DNS: []netip.Addr{netip.MustParseAddr("192.0.2.53")},
	}
	lease := hypervisor.Lease{MAC: "52:54:00:12:34:56", Address: netip.MustParseAddr("10.99.0.77"), Hostname: "leased"}
	m := newMachine(t, d, func(s *hypervisor.Spec) {
		withDisk(t)(s)
		s.CPUs, s.NICs = 2, []hypervisor.NIC{{MAC: lease.MAC, Network: network.Name, Queues: 2}}
	})
	m.must(d.EnsureNetwork(t.Context(), network))
	m.must(d.SetLeases(t.Context(), network.Name, []hypervisor.Lease{lease}))
	m.start()
	p := m.serial()
	lines := p.await("GUEST BOOT", "GUEST IP", "GUEST READY")
	if !strings.Contains(lines[0], " cpus=2 ") {
		t.Errorf("the guest said %q, without two CPUs", lines[0])
	}
	for _, want := range []string{" 10.99.0.77/24 ", "mac=" + lease.MAC, "router=10.99.0.1", "dns=192.0.2.53", "name=leased"} {
		if !strings.Contains(lines[1], want) {
			t.Errorf("the guest said %q, without %q", lines[1], want)
		}
	}
	expectTCPEcho(t, inst, lease.Address)

	m.must(inst.RestartLibvirtd(t.Context()))
	p.say("echo still connected") // QEMU serves the port, not libvirtd
	p.await("ECHO:still connected")
	expectTCPEcho(t, inst, lease.Address)
	m.awaitState(hypervisor.Running)
	p.say("ls /sys/class/net/eth0/queues")
	p.await("rx-1", "tx-1")
	p.say("poweroff")
	m.awaitState(hypervisor.Off)
}

func expectTCPEcho(t *testing.T, inst *privatelibvirt.Instance, addr netip.Addr) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err := inst.InNetwork(func() error {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", netip.AddrPortFrom(addr, 7).String())
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }()
		if _, err := io.WriteString(conn, "ping"); err != nil {
			return err
		}
		b := make([]byte, 4)
		if _, err := io.ReadFull(conn, b); err != nil || string(b) != "ping" {
			return fmt.Errorf("got %q: %w", b, err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
