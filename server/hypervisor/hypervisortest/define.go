package hypervisortest

import (
	"fmt"
	"slices"

	"github.com/google/uuid"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// full is a spec that sets every field that one machine can have.
func (t *suite) full() hypervisor.Spec {
	t.Helper()
	spec := blank()
	dir := t.TempDir()
	spec.CPUs, spec.MemoryBytes, spec.CPUMillis, spec.CPUPriority = 2, 96<<20, 1500, -5
	spec.MaxCPUs, spec.MaxMemoryBytes = 6, 1<<30
	spec.Arch, spec.Machine, spec.Firmware = hypervisor.ArchAMD64, hypervisor.MachinePC, hypervisor.FirmwareBIOS
	spec.Console = hypervisor.ConsoleVNC
	spec.Disks = []hypervisor.Disk{
		{File: dir + "/root.qcow2", Format: hypervisor.DiskQCOW2},
		{File: dir + "/data.raw", Bus: hypervisor.BusSCSI, ReadOnly: true},
		{File: dir + "/old.raw", Bus: hypervisor.BusIDE},
		{File: dir + "/seed.raw", Bus: hypervisor.BusSATA},
		{File: dir + "/more.raw"},
		{File: dir + "/seed.iso", CDROM: true},
		{File: dir + "/fast.qcow2", Format: hypervisor.DiskQCOW2, Bus: hypervisor.BusNVMe},
	}
	spec.NetBoot = true
	spec.NICs = []hypervisor.NIC{
		{MAC: newMAC(), Network: "some-network", Queues: 2},
		{MAC: newMAC(), Bridge: "br0", Model: "e1000"},
	}
	spec.Kernel, spec.Initrd, spec.CommandLine = dir+"/vmlinuz", dir+"/initrd", "console=ttyS0 quiet"
	spec.Watchdog = hypervisor.Watchdog{Model: "i6300esb", Action: "reset"}
	return spec
}

// expectDefined compares what the host says with what a spec means there.
func (t *suite) expectDefined(spec hypervisor.Spec) {
	t.Helper()
	host, err := t.Driver.Host(t.Context())
	t.must(err)
	want, err := spec.Resolve(host.Arch)
	t.must(err)
	got, err := t.Driver.Get(t.Context(), spec.UUID)
	t.must(err)
	expectSame(t, "spec", plainModels(got.Spec), plainModels(want))
	if got.UUID != spec.UUID || got.Name != spec.Name || got.State.Alive() || got.Since.IsZero() {
		t.Errorf("machine is %+v", got)
	}
}

// plainModels writes the two spellings of a virtio card with one queue in one way.
func plainModels(spec hypervisor.Spec) hypervisor.Spec {
	spec.NICs = slices.Clone(spec.NICs)
	for i := range spec.NICs {
		if spec.NICs[i].Model == "" {
			spec.NICs[i].Model = "virtio"
		}
		spec.NICs[i].Queues = max(1, spec.NICs[i].Queues)
	}
	return spec
}

func defineThenGet(t *suite) {
	for _, spec := range []hypervisor.Spec{blank(), t.full()} {
		t.define(spec)
		t.expectDefined(spec)
		t.expectState(spec.UUID, hypervisor.Off)
		t.must(t.Driver.Define(t.Context(), spec)) // once more changes nothing
		t.expectDefined(spec)
	}
}

func defineChangesAMachine(t *suite) {
	spec := t.full()
	t.define(spec)

	spec.Machine, spec.Firmware = hypervisor.MachineQ35, hypervisor.FirmwareUEFI
	spec.Disks = []hypervisor.Disk{spec.Disks[4], spec.Disks[5], spec.Disks[0]}
	spec.NetBoot = false
	spec.NICs = spec.NICs[1:]
	spec.CPUs, spec.CPUMillis, spec.CPUPriority, spec.MemoryBytes = 1, 0, 0, 64<<20
	spec.MaxCPUs, spec.MaxMemoryBytes = 0, 0
	spec.Console, spec.Watchdog = hypervisor.ConsoleDummy, hypervisor.Watchdog{Model: "ib700", Action: "none"}
	spec.Kernel, spec.Initrd, spec.CommandLine = "", "", ""
	t.must(t.Driver.Define(t.Context(), spec))
	t.expectDefined(spec)

	spec.Machine, spec.Firmware = hypervisor.MachinePC, hypervisor.FirmwareBIOS
	spec.Console, spec.Watchdog = hypervisor.ConsoleNone, hypervisor.Watchdog{}
	t.must(t.Driver.Define(t.Context(), spec))
	t.expectDefined(spec)
}

func defineRenames(t *suite) {
	spec := blank()
	t.define(spec)
	old := spec.Name
	spec.Name = "renamed-" + spec.UUID[:8]
	t.must(t.Driver.Define(t.Context(), spec))
	t.expectDefined(spec)

	heir := blank()
	heir.Name = old
	t.define(heir)
	t.expectDefined(heir)
}

func defineRefusesBadSpecs(t *suite) {
	for name, spoil := range map[string]func(*hypervisor.Spec){
		"no UUID":             func(s *hypervisor.Spec) { s.UUID = "" },
		"upper-case UUID":     func(s *hypervisor.Spec) { s.UUID = "D6D5B0A0-0000-4000-8000-000000000001" },
		"no name":             func(s *hypervisor.Spec) { s.Name = "" },
		"name with slash":     func(s *hypervisor.Spec) { s.Name = "../../etc/passwd" },
		"name with newline":   func(s *hypervisor.Spec) { s.Name = "a\nb" },
		"name with NUL":       func(s *hypervisor.Spec) { s.Name = "a\x00b" },
		"name not UTF-8":      func(s *hypervisor.Spec) { s.Name = "a\xffb" },
		"no CPU":              func(s *hypervisor.Spec) { s.CPUs = 0 },
		"tiny CPU limit":      func(s *hypervisor.Spec) { s.CPUMillis = 1 },
		"CPU priority":        func(s *hypervisor.Spec) { s.CPUPriority = 20 },
		"room for half a MiB": func(s *hypervisor.Spec) { s.MaxMemoryBytes = s.MemoryBytes + 512<<10 },
		"no memory":           func(s *hypervisor.Spec) { s.MemoryBytes = 0 },
		"relative disk":       func(s *hypervisor.Spec) { s.Disks[0].File = "disk.raw" },
		"disk twice":          func(s *hypervisor.Spec) { s.Disks[1].File = s.Disks[0].File },
		"unknown bus":         func(s *hypervisor.Spec) { s.Disks[0].Bus = 99 },
		"read-only IDE disk":  func(s *hypervisor.Spec) { s.Disks[2].ReadOnly = true },
		"CD-ROM first":        func(s *hypervisor.Spec) { s.Disks[0].CDROM = true },
		"NIC-less NetBoot":    func(s *hypervisor.Spec) { s.NICs = nil },
		"IDE on q35":          func(s *hypervisor.Spec) { s.Machine = hypervisor.MachineQ35 },
		"bad MAC":             func(s *hypervisor.Spec) { s.NICs[0].MAC = "52-54-00-00-00-01" },
		"multicast MAC":       func(s *hypervisor.Spec) { s.NICs[0].MAC = "01:54:00:00:00:01" },
		"MAC twice":           func(s *hypervisor.Spec) { s.NICs[1].MAC = s.NICs[0].MAC },
		"network and bridge":  func(s *hypervisor.Spec) { s.NICs[0].Bridge = "br0" },
		"neither":             func(s *hypervisor.Spec) { s.NICs[0].Network = "" },
		"bridge name":         func(s *hypervisor.Spec) { s.NICs[1].Bridge = "a-name-that-is-too-long" },
		"NIC model":           func(s *hypervisor.Spec) { s.NICs[0].Model = "rtl8139;" },
		"queues of an e1000":  func(s *hypervisor.Spec) { s.NICs[1].Queues = 2 },
		"initrd alone":        func(s *hypervisor.Spec) { s.Kernel = "" },
		"control in cmdline":  func(s *hypervisor.Spec) { s.CommandLine = "a\x01b" },
		"watchdog model":      func(s *hypervisor.Spec) { s.Watchdog.Model = "cat" },
		"watchdog action":     func(s *hypervisor.Spec) { s.Watchdog.Action = "" },
		"virt board on amd64": func(s *hypervisor.Spec) { s.Machine = hypervisor.MachineVirt },
		"BIOS on arm64": func(s *hypervisor.Spec) {
			s.Arch, s.Machine = hypervisor.ArchARM64, hypervisor.MachineVirt
		},
	} {
		spec := t.full()
		spoil(&spec)
		t.expectCode(name, t.Driver.Define(t.Context(), spec), fault.InvalidArgument)
		if _, err := t.Driver.Get(t.Context(), spec.UUID); err == nil {
			t.Errorf("%s: the machine was defined", name)
			t.remove(spec.UUID)
		}
	}
}

func defineRefusesATakenName(t *suite) {
	first, second, third := blank(), blank(), blank()
	t.define(first)
	t.define(third)
	second.Name = first.Name
	t.expectCode("define", t.Driver.Define(t.Context(), second), fault.AlreadyExists)
	_, err := t.Driver.Get(t.Context(), second.UUID)
	t.expectCode("get", err, fault.NotFound)

	renamed := third
	renamed.Name = first.Name
	t.expectCode("rename", t.Driver.Define(t.Context(), renamed), fault.AlreadyExists)
	t.expectDefined(first)
	t.expectDefined(third)
}

func defineRefusesALiveMachine(t *suite) {
	spec := blank()
	t.start(spec)
	changed := spec
	changed.CPUs = 2
	t.expectCode("define", t.Driver.Define(t.Context(), changed), fault.FailedPrecondition)
	t.must(t.Driver.Kill(t.Context(), spec.UUID))
	t.expectDefined(spec)
}

func defineTakesHostileText(t *suite) {
	for _, text := range []string{
		`a<b>&"'`, "-rf", "..x", "$(id);`id`|%s%n", "Zürich 東京 🖥", "]]><!-- &amp; -->", `back\slash`, "comma,equals=x", "#{}*?[]~",
	} {
		spec := blank()
		spec.Name = text + " " + spec.UUID[:8]
		spec.Disks = []hypervisor.Disk{{File: "/nowhere/" + text}}
		spec.Kernel, spec.Initrd, spec.CommandLine = "/nowhere/k"+text, "/nowhere/i"+text, text
		t.define(spec)
		t.expectDefined(spec)
	}
}

func defineTakesManyDevices(t *suite) {
	with := func(bus hypervisor.DiskBus, disks, nics int) hypervisor.Spec {
		spec := blank()
		for i := range disks {
			spec.Disks = append(spec.Disks, hypervisor.Disk{File: fmt.Sprintf("/nowhere/disk%d", i), Bus: bus})
		}
		for range nics {
			spec.NICs = append(spec.NICs, hypervisor.NIC{MAC: newMAC(), Bridge: "br0"})
		}
		return spec
	}
	for _, machine := range []hypervisor.MachineType{hypervisor.MachineQ35, hypervisor.MachinePC} {
		for _, bus := range []hypervisor.DiskBus{hypervisor.BusVirtio, hypervisor.BusSCSI, hypervisor.BusSATA} {
			most := with(bus, hypervisor.MaxDisks, hypervisor.MaxNICs)
			most.Machine = machine
			t.define(most)
			t.expectDefined(most)
		}
	}
	t.expectCode("hundreds of disks", t.Driver.Define(t.Context(), with(hypervisor.BusVirtio, 500, 0)), fault.InvalidArgument)
	t.expectCode("hundreds of cards", t.Driver.Define(t.Context(), with(hypervisor.BusVirtio, 0, 500)), fault.InvalidArgument)
}

func undefine(t *suite) {
	t.must(t.Driver.Undefine(t.Context(), uuid.NewString()))
	spec := blank()
	spec.Firmware = hypervisor.FirmwareUEFI // which has files of its own
	t.start(spec)
	t.expectCode("live machine", t.Driver.Undefine(t.Context(), spec.UUID), fault.FailedPrecondition)
	t.expectState(spec.UUID, hypervisor.Running)
	t.must(t.Driver.Kill(t.Context(), spec.UUID))
	t.must(t.Driver.Undefine(t.Context(), spec.UUID))
	_, err := t.Driver.Get(t.Context(), spec.UUID)
	t.expectCode("get", err, fault.NotFound)
	t.must(t.Driver.Undefine(t.Context(), spec.UUID))
	t.define(spec) // the name is free
}

func listIsOrdered(t *suite) {
	var want []string
	for _, prefix := range []string{"m", "a", "z"} {
		spec := blank()
		spec.Name = prefix + spec.Name
		t.define(spec)
		want = append(want, spec.Name)
	}
	slices.Sort(want)
	all, err := t.Driver.List(t.Context())
	t.must(err)
	var names, ours []string
	for _, m := range all {
		names = append(names, m.Name)
		if slices.Contains(want, m.Name) {
			ours = append(ours, m.Name)
			got, err := t.Driver.Get(t.Context(), m.UUID)
			t.must(err)
			expectSame(t, "listed machine", m, got)
		}
	}
	if !slices.IsSorted(names) {
		t.Errorf("not ordered by name: %q", names)
	}
	expectSame(t, "names", ours, want)
}

func unknownMachine(t *suite) {
	id, ctx := uuid.NewString(), t.Context()
	_, err := t.Driver.Get(ctx, id)
	t.expectCode("get", err, fault.NotFound)
	t.expectCode("start", t.Driver.Start(ctx, id), fault.NotFound)
	t.expectCode("adjust", t.Driver.Adjust(ctx, id, blank().Resources()), fault.NotFound)
	t.expectCode("shutdown", t.Driver.Shutdown(ctx, id), fault.NotFound)
	t.expectCode("kill", t.Driver.Kill(ctx, id), fault.NotFound)
	t.expectCode("reboot", t.Driver.Reboot(ctx, id), fault.NotFound)
	t.expectCode("reset", t.Driver.Reset(ctx, id), fault.NotFound)
	_, err = t.Driver.OpenSerial(ctx, id, false)
	t.expectCode("serial", err, fault.NotFound)
	_, err = t.Driver.OpenDisplay(ctx, id)
	t.expectCode("display", err, fault.NotFound)
	_, err = t.Driver.Get(ctx, "no UUID at all")
	t.expectCode("get nonsense", err, fault.NotFound)
}

func hostIsDescribed(t *suite) {
	host, err := t.Driver.Host(t.Context())
	t.must(err)
	if host.Hostname == "" || host.CPUs == 0 || host.MemoryBytes == 0 || host.FreeBytes > host.MemoryBytes ||
		host.Arch == hypervisor.ArchAuto || host.Why == "" || host.Version == "" {
		t.Errorf("host is %+v", host)
	}
	again, err := t.Driver.Host(t.Context())
	t.must(err)
	if again.Accelerated != host.Accelerated || again.Why != host.Why {
		t.Errorf("the acceleration changed from %v (%s) to %v (%s)", host.Accelerated, host.Why, again.Accelerated, again.Why)
	}
}
