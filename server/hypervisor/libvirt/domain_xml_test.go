package libvirt

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"libvirt.org/go/libvirtxml"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// golden compares text with a file below testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v (go test -update writes it)", err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
}

const testUUID = "d6d5b0a0-0000-4000-8000-000000000001"

func testEnv() domainEnv {
	return domainEnv{virtType: virtQEMU, files: "/run/hp/" + testUUID, nvram: "/nvram/" + testUUID + "_VARS.fd"}
}

// testSpecs are specs that together set everything.
func testSpecs() map[string]hypervisor.Spec {
	base := hypervisor.Spec{UUID: testUUID, Name: "web", CPUs: 1, MemoryBytes: 64 << 20, Arch: hypervisor.ArchAMD64}
	plain, full, uefi, kernel, arm := base, base, base, base, base

	full.Name, full.CPUs, full.CPUMillis = `a<b>&"'`, 4, 1500
	full.Machine, full.Console = hypervisor.MachinePC, hypervisor.ConsoleVNC
	full.Disks = []hypervisor.Disk{
		{File: "/d/root.qcow2", Format: hypervisor.DiskQCOW2},
		{File: `/d/<&">.raw`, Bus: hypervisor.BusSCSI, ReadOnly: true},
		{File: "/d/old.raw", Bus: hypervisor.BusIDE},
		{File: "/d/sata.raw", Bus: hypervisor.BusSATA},
		{File: "/d/more.raw"},
	}
	full.NICs = []hypervisor.NIC{
		{MAC: "52:54:00:00:00:01", Network: "default", Queues: 4, Model: "virtio"},
		{MAC: "52:54:00:00:00:02", Bridge: "br0", Model: "e1000e"},
	}
	full.Watchdog = hypervisor.Watchdog{Model: "i6300esb", Action: "poweroff"}

	uefi.Firmware, uefi.Console = hypervisor.FirmwareUEFI, hypervisor.ConsoleDummy
	kernel.Kernel, kernel.Initrd, kernel.CommandLine = "/k/vmlinuz", "/k/initrd", `console=ttyS0 x="a b" <&>`
	arm.Arch, arm.Console = hypervisor.ArchARM64, hypervisor.ConsoleVNC
	netboot := base
	netboot.NetBoot, netboot.NICs = true, full.NICs
	netboot.Disks = []hypervisor.Disk{{File: "/d/root.raw"}, {File: "/d/seed.iso", CDROM: true}, {File: "/d/more.raw", Bus: hypervisor.BusSATA}}
	roomy := base
	roomy.CPUPriority, roomy.MaxCPUs, roomy.MaxMemoryBytes = -20, 4, 1<<30
	nvme := base
	nvme.Disks = []hypervisor.Disk{{File: "/d/root.qcow2", Format: hypervisor.DiskQCOW2, Bus: hypervisor.BusNVMe}, {File: "/d/more.raw"}, {File: "/d/fast.raw", Bus: hypervisor.BusNVMe}}
	return map[string]hypervisor.Spec{"nvme": nvme, "roomy": roomy, "netboot": netboot, "plain": plain, "full": full, "uefi": uefi, "kernel": kernel, "arm64": arm}
}

func resolve(t *testing.T, s hypervisor.Spec) hypervisor.Spec {
	t.Helper()
	resolved, err := s.Resolve(hypervisor.ArchAMD64)
	if err != nil {
		t.Fatal(err)
	}
	return resolved
}

func build(t *testing.T, s hypervisor.Spec, env domainEnv) (*libvirtxml.Domain, string) {
	t.Helper()
	d, err := buildDomain(s, env)
	if err != nil {
		t.Fatal(err)
	}
	text, err := d.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return d, text
}

func TestDomainXML(t *testing.T) {
	t.Parallel()
	for name, s := range testSpecs() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := resolve(t, s)
			env := testEnv()
			env.limitCPU = true
			if name == "kernel" {
				env.virtType = virtKVM
			}
			_, text := build(t, s, env)
			golden(t, "domain-"+name+".xml", text)

			var back libvirtxml.Domain
			if err := back.Unmarshal(text); err != nil {
				t.Fatal(err)
			}
			got := parseDomain(&back)
			if diff := cmp.Diff(s, got, cmpopts.EquateEmpty(), cmp.Transformer("model", func(n hypervisor.NIC) hypervisor.NIC {
				if n.Model == "" {
					n.Model = "virtio"
				}
				return n
			})); diff != "" {
				t.Errorf("read back (-want +got):\n%s", diff)
			}
		})
	}
}

func TestCPULimitIsKeptWithoutAController(t *testing.T) {
	t.Parallel()
	s := resolve(t, testSpecs()["full"])
	d, _ := build(t, s, testEnv())
	if d.CPUTune != nil || parseDomain(d).CPUMillis != s.CPUMillis {
		t.Errorf("tune %v, limit %d", d.CPUTune, parseDomain(d).CPUMillis)
	}
	// Somebody else's machine has only the quota.
	d.Metadata, d.CPUTune = nil, buildQuota(250)
	if got := parseDomain(d).CPUMillis; got != 250 {
		t.Errorf("limit %d from the quota", got)
	}
}

func TestRedefinitionKeepsTheBoardsVersion(t *testing.T) {
	t.Parallel()
	s := resolve(t, testSpecs()["uefi"])
	old, _ := build(t, s, testEnv())
	old.OS.Type.Machine = "pc-q35-5.2"
	env := testEnv()
	env.old = old
	if d, _ := build(t, s, env); d.OS.Type.Machine != "pc-q35-5.2" {
		t.Errorf("machine type %s", d.OS.Type.Machine)
	}
	s.Machine = hypervisor.MachinePC
	if d, _ := build(t, s, env); d.OS.Type.Machine != "pc" {
		t.Errorf("machine type %s after a change of the board", d.OS.Type.Machine)
	}
}

func TestDriveLetters(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]string{0: "a", 25: "z", 26: "aa", 51: "az", 52: "ba", 701: "zz", 702: "aaa"} {
		if got := driveLetters(n); got != want {
			t.Errorf("%d: %s, not %s", n, got, want)
		}
	}
}

// TestForeignDomain reads a definition with what a Spec has no word for.
func TestForeignDomain(t *testing.T) {
	t.Parallel()
	var d libvirtxml.Domain
	err := d.Unmarshal(`<domain type="kvm"><name>x</name><uuid>` + testUUID + `</uuid><memory unit="GiB">2</memory><vcpu current="1">2</vcpu>
		<metadata><other xmlns="urn:x" cpu-millis="7"/></metadata>
		<os><type arch="riscv64" machine="microvm">hvm</type><loader type="pflash" readonly="yes">/x</loader></os>
		<devices>
			<disk type="file" device="cdrom"><source file="/iso"/><target dev="hda" bus="ide"/></disk>
			<disk type="block" device="disk"><source dev="/dev/sdb"/><target dev="vda" bus="virtio"/></disk>
			<disk type="file" device="disk"><driver name="qemu" type="raw"/><source file="/second"/><target dev="sda" bus="usb"/></disk>
			<interface type="user"><mac address="52:54:00:00:00:01"/></interface>
			<interface type="direct"><mac address="52:54:00:00:00:02"/><source dev="eth0" mode="bridge"/></interface>
			<graphics type="spice" autoport="yes"/>
			<video><model type="qxl"/></video>
			<watchdog model="itco" action="reset"/>
		</devices></domain>`)
	if err != nil {
		t.Fatal(err)
	}
	want := hypervisor.Spec{
		UUID: testUUID, Name: "x", CPUs: 1, MaxCPUs: 2, MemoryBytes: 2 << 30, MaxMemoryBytes: 2 << 30, Firmware: hypervisor.FirmwareUEFI,
		Disks: []hypervisor.Disk{{File: "/second"}}, Console: hypervisor.ConsoleDummy,
	}
	if diff := cmp.Diff(want, parseDomain(&d), cmpopts.EquateEmpty()); diff != "" {
		t.Error(diff)
	}
	if isOurs(&d) {
		t.Error("taken for ours")
	}
	parseDomain(&libvirtxml.Domain{}) // and one with nothing at all
	if socket, vnc := parseDisplay(&d); vnc || socket != "" {
		t.Errorf("display %q", socket)
	}
}

func FuzzParseDomain(f *testing.F) {
	files, err := filepath.Glob("testdata/domain-*.xml")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Fuzz(func(_ *testing.T, text string) {
		var d libvirtxml.Domain
		if d.Unmarshal(text) != nil {
			return
		}
		parseDomain(&d)
		parseSerial(&d)
		parseDisplay(&d)
	})
}

func TestOptions(t *testing.T) {
	t.Parallel()
	long := "/" + strings.Repeat("x", 64)
	for name, opts := range map[string]Options{
		"no log":           {RunDir: "/r"},
		"relative run dir": {RunDir: "r", Log: discard()},
		"long run dir":     {RunDir: long, Log: discard()},
		"unknown accel":    {RunDir: "/r", Log: discard(), Accel: 9},
	} {
		if _, err := Open(t.Context(), opts); !fault.Is(err, fault.InvalidArgument) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSharesFollowTheKernelsNiceWeights(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		priority    int32
		v1, unified uint64
	}{{0, 1024, 100}, {-1, 1280, 125}, {-20, 88818, 8674}, {19, 15, 1}, {5, 336, 33}} {
		if v1, unified := shares(test.priority, false), shares(test.priority, true); v1 != test.v1 || unified != test.unified {
			t.Errorf("priority %d: %d, %d", test.priority, v1, unified)
		}
	}
}

func TestNVMeNeedsLibvirt(t *testing.T) {
	t.Parallel()
	if lack := lackForNVMe(8_002_000); lack != "" {
		t.Errorf("8.2.0: %s", lack)
	}
	if lack := lackForNVMe(8_001_999); lack != "it needs libvirt 8.2.0, and this is 8.1.999" {
		t.Errorf("8.1.999: %s", lack)
	}
}

func TestCounters(t *testing.T) {
	t.Parallel()
	counters, err := parseCounters(`{"return":[{"qdev":"ua-nvme0","stats":{"rd_bytes":1,"rd_operations":2,"wr_bytes":3,"wr_operations":4}},
		{"qdev":"/machine/peripheral/ua-disk1/virtio-backend","stats":{"rd_bytes":5}},{"node-name":"x","stats":{}}],"id":"libvirt-1"}`)
	if err != nil || counters["ua-nvme0"] != (diskCounters{1, 2, 3, 4}) || counters["ua-disk1/virtio-backend"].ReadBytes != 5 {
		t.Errorf("%v, %v", counters, err)
	}
	if _, err := parseCounters("{"); !fault.Is(err, fault.Internal) {
		t.Errorf("broken: %v", err)
	}
}
