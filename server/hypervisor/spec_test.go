package hypervisor_test

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

const id = "d6d5b0a0-0000-4000-8000-000000000001"

func TestResolveChooses(t *testing.T) {
	t.Parallel()
	ide := []hypervisor.Disk{{File: "/d", Bus: hypervisor.BusIDE}}
	type choice struct {
		arch     hypervisor.Arch
		machine  hypervisor.MachineType
		firmware hypervisor.Firmware
	}
	for name, test := range map[string]struct {
		host hypervisor.Arch
		spec hypervisor.Spec
		want choice
	}{
		"amd64 host": {
			hypervisor.ArchAMD64,
			hypervisor.Spec{},
			choice{hypervisor.ArchAMD64, hypervisor.MachineQ35, hypervisor.FirmwareBIOS},
		},
		"IDE needs the pc board": {
			hypervisor.ArchAMD64,
			hypervisor.Spec{Disks: ide},
			choice{hypervisor.ArchAMD64, hypervisor.MachinePC, hypervisor.FirmwareBIOS},
		},
		"arm64 host": {
			hypervisor.ArchARM64,
			hypervisor.Spec{},
			choice{hypervisor.ArchARM64, hypervisor.MachineVirt, hypervisor.FirmwareUEFI},
		},
		"what is chosen stays": {
			hypervisor.ArchARM64,
			hypervisor.Spec{Arch: hypervisor.ArchAMD64, Machine: hypervisor.MachinePC, Firmware: hypervisor.FirmwareUEFI},
			choice{hypervisor.ArchAMD64, hypervisor.MachinePC, hypervisor.FirmwareUEFI},
		},
	} {
		s := test.spec
		s.UUID, s.Name, s.CPUs, s.MemoryBytes = id, "web", 1, 1<<30
		got, err := s.Resolve(test.host)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if made := (choice{got.Arch, got.Machine, got.Firmware}); made != test.want {
			t.Errorf("%s: %v, not %v", name, made, test.want)
		}
		again, err := got.Resolve(test.host)
		if diff := cmp.Diff(got, again); err != nil || diff != "" {
			t.Errorf("%s: resolved twice: %v\n%s", name, err, diff)
		}
	}
}

func TestReadOnlyDiskMayBeShared(t *testing.T) {
	t.Parallel()
	s := hypervisor.Spec{UUID: id, Name: "web", CPUs: 1, MemoryBytes: 1 << 30, Disks: []hypervisor.Disk{
		{File: "/seed", ReadOnly: true}, {File: "/seed", ReadOnly: true},
	}}
	if _, err := s.Resolve(hypervisor.ArchAMD64); err != nil {
		t.Error(err)
	}
	s.Disks = append(s.Disks, hypervisor.Disk{File: "/seed"})
	if _, err := s.Resolve(hypervisor.ArchAMD64); !fault.Is(err, fault.InvalidArgument) {
		t.Errorf("written to as well: %v", err)
	}
}

func TestCheckLeases(t *testing.T) {
	t.Parallel()
	gateway := netip.MustParsePrefix("10.0.0.1/30")
	lease := hypervisor.Lease{MAC: "52:54:00:00:00:01", Address: netip.MustParseAddr("10.0.0.2"), Hostname: "a.b-c"}
	if err := hypervisor.CheckLeases("n", gateway, []hypervisor.Lease{lease}); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"10.0.0.0", "10.0.0.1", "10.0.0.3", "10.0.0.4", "::1"} {
		lease.Address = netip.MustParseAddr(bad)
		if err := hypervisor.CheckLeases("n", gateway, []hypervisor.Lease{lease}); !fault.Is(err, fault.InvalidArgument) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	for got, want := range map[string]string{
		hypervisor.Crashed.String(): "crashed", hypervisor.State(9).String(): "9", hypervisor.MachinePC.String(): "pc",
		hypervisor.BusSCSI.String(): "scsi", hypervisor.DiskQCOW2.String(): "qcow2", hypervisor.ConsoleVNC.String(): "vnc",
	} {
		if got != want {
			t.Errorf("%q, not %q", got, want)
		}
	}
}
