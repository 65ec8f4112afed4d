package ovf_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/providers/driver"
	"github.com/hyperplane-project/hyperplane/providers/ovf"
)

var update = flag.Bool("update", false, "rewrite the expected files")

func sampleVM() driver.VM {
	return driver.VM{
		ID: "vm-42", Name: `shop <"db"> & co`, CPUs: 4, MemoryBytes: 6<<30 + 1, Firmware: driver.FirmwareUEFI, SecureBoot: true,
		GuestOS: "ubuntu64Guest", GuestName: "Ubuntu Linux (64-bit)",
		Disks: []driver.DiskInfo{
			{ID: "2000", Label: "Hard disk 1", Capacity: 10 << 30, Bus: "scsi", ControllerModel: "pvscsi"},
			{ID: "2001", Label: "Hard disk 2", Capacity: 1<<30 + 512, Bus: "scsi", Unit: 1, ControllerModel: "pvscsi"},
			{ID: "16000", Label: "Hard disk 3", Capacity: 1 << 20, Bus: "sata", Unit: 3, ControllerModel: "ahci"},
			{ID: "31000", Label: "Hard disk 4", Capacity: 1 << 20, Bus: "nvme", Controller: 1},
			{ID: "3000", Label: "Hard disk 5", Capacity: 1 << 20, Bus: "ide", Controller: 1, Unit: 1},
		},
		NICs: []driver.NIC{
			{Label: "Network adapter 1", MAC: "00:50:56:ab:cd:ef", Network: "prod & test", Model: "vmxnet3", Connected: true},
			{Label: "Network adapter 2", Network: "prod & test", Model: "e1000"},
			{Label: "Network adapter 3", Model: "sriov"},
		},
	}
}

func sampleFiles() []ovf.File {
	return []ovf.File{
		{DiskID: "3000", Name: "db-5.vhd", Size: 5, Format: ovf.FormatVHD},
		{DiskID: "2000", Name: "db-1.vmdk", Size: 1234567890123, Format: ovf.FormatStreamVMDK, Populated: 4 << 30},
		{DiskID: "2001", Name: "db-2.qcow2", Size: 2, Format: ovf.FormatQCOW2},
		{DiskID: "16000", Name: "db-3.raw", Size: 3, Format: ovf.FormatRaw},
		{DiskID: "31000", Name: "db-4.vmdk", Size: 4, Format: ovf.FormatStreamVMDK},
	}
}

func TestDescriptor(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		vm    driver.VM
		files []ovf.File
	}{
		"full": {sampleVM(), sampleFiles()},
		"bare": {driver.VM{ID: "vm-1", Name: "bare", MemoryBytes: 64 << 20}, nil},
		"bios": {
			driver.VM{
				ID: "vm-2", Name: "old", CPUs: 1, MemoryBytes: 256 << 20, Firmware: driver.FirmwareBIOS, GuestOS: "otherGuest",
				Disks: []driver.DiskInfo{{ID: "a", Capacity: 512, Bus: "virtio"}}, NICs: []driver.NIC{{Network: "n", Model: "virtio"}},
			},
			[]ovf.File{{DiskID: "a", Name: "a.raw", Size: 512, Format: ovf.FormatRaw}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var b strings.Builder
			if err := ovf.Write(&b, test.vm, test.files); err != nil {
				t.Fatal(err)
			}
			golden := filepath.Join("testdata", name+".ovf")
			if *update {
				if err := os.WriteFile(golden, []byte(b.String()), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), b.String()); diff != "" {
				t.Errorf("descriptor (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDescriptorRefused(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func([]ovf.File) []ovf.File{
		"disk without file": func(f []ovf.File) []ovf.File { return f[1:] },
		"file without disk": func(f []ovf.File) []ovf.File {
			return append(f, ovf.File{DiskID: "x", Name: "x.raw", Format: ovf.FormatRaw})
		},
		"disk twice":     func(f []ovf.File) []ovf.File { f[0].DiskID = f[1].DiskID; return f },
		"name twice":     func(f []ovf.File) []ovf.File { f[0].Name = f[1].Name; return f },
		"name is a path": func(f []ovf.File) []ovf.File { f[0].Name = "../x.vmdk"; return f },
		"no format":      func(f []ovf.File) []ovf.File { f[0].Format = ""; return f },
		"no size":        func(f []ovf.File) []ovf.File { f[0].Size = -1; return f },
	} {
		var b strings.Builder
		if err := ovf.Write(&b, sampleVM(), change(sampleFiles())); !fault.Is(err, fault.InvalidArgument) || b.Len() > 0 {
			t.Errorf("%s: %v, %d bytes written", name, err, b.Len())
		}
	}
}
