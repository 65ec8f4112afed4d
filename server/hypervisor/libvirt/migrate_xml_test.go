package libvirt

import (
	"strings"
	"testing"

	"libvirt.org/go/libvirtxml"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// movable is a machine as this host would start it.
func movable(tb testing.TB) *libvirtxml.Domain {
	tb.Helper()
	s, err := hypervisor.Spec{
		UUID: "0b4f7d5e-6a52-4f5c-8f0e-1a2b3c4d5e6f", Name: "web", CPUs: 1, MemoryBytes: 64 << 20, Arch: hypervisor.ArchAMD64, Console: hypervisor.ConsoleVNC,
		Disks: []hypervisor.Disk{{File: "/here/root"}, {File: "/here/more", Format: hypervisor.DiskQCOW2}},
		NICs:  []hypervisor.NIC{{MAC: "52:54:00:12:34:56", Network: "here"}},
	}.Resolve(hypervisor.ArchAMD64)
	if err != nil {
		tb.Fatal(err)
	}
	d, err := buildDomain(s, domainEnv{virtType: virtQEMU, files: "/run/here"})
	if err != nil {
		tb.Fatal(err)
	}
	return d
}

// TestGraftTakesNoFilesOfTheSource has a source name files, programs and devices wherever a description can.
func TestGraftTakesNoFilesOfTheSource(t *testing.T) {
	t.Parallel()
	coming := movable(t)
	const evil = "/etc/shadow"
	file := func() *libvirtxml.DomainDiskSource {
		return &libvirtxml.DomainDiskSource{File: &libvirtxml.DomainDiskSourceFile{File: evil}}
	}
	coming.Devices.Emulator = evil
	coming.Devices.Disks[1].Source, coming.Devices.Disks[1].BackingStore = file(), &libvirtxml.DomainDiskBackingStore{Source: file()}
	coming.Devices.Interfaces[0].Script = &libvirtxml.DomainInterfaceScript{Path: evil}
	coming.Devices.Interfaces[0].Source = &libvirtxml.DomainInterfaceSource{Network: &libvirtxml.DomainInterfaceSourceNetwork{Network: evil}}
	coming.Devices.Serials[0].Log.File = evil
	coming.Devices.RNGs[0].Backend.Random.Device = evil
	coming.Devices.Filesystems = []libvirtxml.DomainFilesystem{{Source: &libvirtxml.DomainFilesystemSource{Mount: &libvirtxml.DomainFilesystemSourceMount{Dir: evil}}}}
	coming.Devices.Audios = []libvirtxml.DomainAudio{{ID: 1}}
	coming.QEMUCommandline = &libvirtxml.DomainQEMUCommandline{Args: []libvirtxml.DomainQEMUCommandlineArg{{Value: evil}}}
	coming.OS.Kernel, coming.OS.Initrd = evil, evil
	coming.Devices.Disks[1].Alias.Name = aliasOf(7) // one between has gone
	here := movable(t)
	if err := graft(here, coming); err != nil {
		t.Fatal(err)
	}
	text, err := here.Marshal()
	if err != nil || strings.Contains(text, evil) || !strings.Contains(text, "/here/more") || !strings.Contains(text, aliasOf(7)) {
		t.Errorf("%v in %s", err, text)
	}
}

func TestGraftRefuses(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*libvirtxml.Domain){
		"no devices":      func(d *libvirtxml.Domain) { d.Devices = nil },
		"a disk more":     func(d *libvirtxml.Domain) { d.Devices.Disks = append(d.Devices.Disks, d.Devices.Disks[0]) },
		"another bus":     func(d *libvirtxml.Domain) { d.Devices.Disks[0].Target.Bus = "scsi" },
		"another format":  func(d *libvirtxml.Domain) { d.Devices.Disks[0].Driver.Type = "qcow2" },
		"another card":    func(d *libvirtxml.Domain) { d.Devices.Interfaces[0].MAC.Address = "52:54:00:00:00:01" },
		"no card":         func(d *libvirtxml.Domain) { d.Devices.Interfaces = nil },
		"foreign memory":  func(d *libvirtxml.Domain) { d.Devices.Memorydevs = []libvirtxml.DomainMemorydev{{Model: "nvdimm"}} },
		"no display":      func(d *libvirtxml.Domain) { d.Devices.Graphics = nil },
		"another disk":    func(d *libvirtxml.Domain) { d.Devices.Disks[0].Alias = nil },
		"unknown loader":  func(d *libvirtxml.Domain) { d.OS.Loader = &libvirtxml.DomainLoader{Path: "/x"} },
		"no memballoon":   func(d *libvirtxml.Domain) { d.Devices.MemBalloon = nil },
		"a second serial": func(d *libvirtxml.Domain) { d.Devices.Serials = append(d.Devices.Serials, d.Devices.Serials[0]) },
	} {
		coming := movable(t)
		change(coming)
		if err := graft(movable(t), coming); !fault.Is(err, fault.FailedPrecondition) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestGraftFirmware(t *testing.T) {
	t.Parallel()
	const loader, template = "/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"
	for _, test := range []struct {
		loader, template string
		want             fault.Code
	}{
		{loader, template, fault.OK},
		{"/etc/shadow", template, fault.FailedPrecondition},
		{loader, "/usr/share/../../etc/shadow", fault.FailedPrecondition},
		{"", template, fault.FailedPrecondition},
	} {
		here, coming := movable(t), movable(t)
		for _, d := range []*libvirtxml.Domain{here, coming} {
			d.OS.Firmware, d.OS.NVRam = "efi", &libvirtxml.DomainNVRam{NVRam: "/nvram/" + d.Name}
		}
		coming.OS.NVRam = &libvirtxml.DomainNVRam{NVRam: "/elsewhere", Template: test.template}
		if test.loader != "" {
			coming.OS.Loader = &libvirtxml.DomainLoader{Path: test.loader}
		}
		err := graft(here, coming)
		if fault.CodeOf(err) != test.want {
			t.Errorf("%+v: %v", test, err)
		}
		if err == nil && (here.OS.Loader.Path != loader || here.OS.NVRam.NVRam != "/nvram/web" || here.OS.NVRam.Template != template) {
			t.Errorf("%+v", here.OS)
		}
	}
}

// FuzzGraft reads descriptions that another host may send.
func FuzzGraft(f *testing.F) {
	text, err := movable(f).Marshal()
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{text, "", "<domain/>", "<domain><os><type/></os><devices/></domain>", strings.ReplaceAll(text, "<alias", "<x"), strings.ReplaceAll(text, "<model", "<x")} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		coming := new(libvirtxml.Domain)
		if coming.Unmarshal(text) != nil {
			return
		}
		here := movable(t)
		if graft(here, coming) != nil {
			return
		}
		if _, err := here.Marshal(); err != nil {
			t.Error(err)
		}
	})
}
