package hypervisortest

import (
	"bytes"
	"context"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// virtualisationProperties are those of hypervisor.Virtualisation.
func virtualisationProperties() []property {
	return []property{
		{name: "DomainsAreFound", test: domainsAreFound},
		{name: "DomainPausesAndResumes", test: domainPausesAndResumes},
		{name: "DomainTakesKeysAndShowsItsScreen", test: domainTakesKeysAndShowsItsScreen},
		{name: "DomainSnapshots", test: domainSnapshots},
		{name: "DomainSnapshotsNeedQCOW2", test: domainSnapshotsNeedQCOW2},
		{name: "DomainInterfaces", test: domainInterfaces},
		{name: "DomainsAreMeasured", test: domainsAreMeasured},
		{name: "PoolLives", test: poolLives},
		{name: "VolumeLives", test: volumeLives},
		{name: "VolumeContent", test: volumeContent},
		{name: "VirtualNetworkLives", test: virtualNetworkLives},
	}
}

func domainsAreFound(t *suite) {
	ctx := t.Context()
	spec := blank()
	spec.Name = `a "b" <c> & 'd' ` + spec.UUID[:8]
	t.define(spec)
	for _, ref := range []string{spec.UUID, spec.Name} {
		d, err := t.Driver.FindDomain(ctx, ref)
		t.must(err)
		want := hypervisor.Domain{UUID: spec.UUID, Name: spec.Name, CPUs: 1, MemoryBytes: 32 << 20, Persistent: true}
		expectSame(t, "domain "+ref, d, want)
	}
	all, err := t.Driver.ListDomains(ctx)
	t.must(err)
	if !slices.ContainsFunc(all, func(d hypervisor.Domain) bool { return d.UUID == spec.UUID && d.Name == spec.Name }) {
		t.Errorf("not listed: %v", all)
	}
	t.must(t.Driver.StartDomain(ctx, spec.UUID))
	d, err := t.Driver.FindDomain(ctx, spec.Name)
	t.must(err)
	if d.State != hypervisor.Running || d.ID == 0 {
		t.Errorf("after its start: %+v", d)
	}
	t.expectCode("start it again", t.Driver.StartDomain(ctx, spec.UUID), fault.FailedPrecondition)
	for _, ref := range []string{"", "no such domain", uuid.NewString()} {
		_, err := t.Driver.FindDomain(ctx, ref)
		t.expectCode("find "+ref, err, fault.NotFound)
	}
}

func domainPausesAndResumes(t *suite) {
	ctx := t.Context()
	spec := blank()
	t.define(spec)
	t.expectCode("pause what is off", t.Driver.Pause(ctx, spec.UUID), fault.FailedPrecondition)
	t.must(t.Driver.StartDomain(ctx, spec.UUID))
	t.expectCode("resume what runs", t.Driver.Unpause(ctx, spec.UUID), fault.FailedPrecondition)
	t.must(t.Driver.Pause(ctx, spec.UUID))
	t.expectState(spec.UUID, hypervisor.Paused)
	t.must(t.Driver.Unpause(ctx, spec.UUID))
	t.expectState(spec.UUID, hypervisor.Running)
	t.expectCode("unknown", t.Driver.Pause(ctx, uuid.NewString()), fault.NotFound)
}

func domainTakesKeysAndShowsItsScreen(t *suite) {
	ctx := t.Context()
	spec := blank()
	spec.Console = hypervisor.ConsoleVNC
	t.define(spec)
	const a = 30
	t.expectCode("keys while off", t.Driver.SendKeys(ctx, spec.UUID, []uint32{a}, 0), fault.FailedPrecondition)
	_, err := t.Driver.Screenshot(ctx, spec.UUID)
	t.expectCode("screenshot while off", err, fault.FailedPrecondition)
	t.must(t.Driver.Start(ctx, spec.UUID))
	t.must(t.Driver.SendKeys(ctx, spec.UUID, []uint32{a, 42}, 10*time.Millisecond))
	t.expectCode("no keys", t.Driver.SendKeys(ctx, spec.UUID, nil, 0), fault.InvalidArgument)
	picture, err := t.Driver.Screenshot(ctx, spec.UUID)
	t.must(err)
	if !bytes.HasPrefix(picture, []byte("P6")) && !bytes.HasPrefix(picture, []byte("\x89PNG")) {
		t.Errorf("a picture of %d bytes begins with %q", len(picture), picture[:min(len(picture), 8)])
	}
	c, err := t.Driver.Console(ctx, spec.UUID)
	t.must(err)
	if !c.VNC || c.VNCSocket == "" || !c.Serial || c.SerialSocket == "" {
		t.Errorf("console: %+v", c)
	}
}

// qcow2 makes a pool with a QCOW2 volume, and returns a disk of it.
func (t *suite) qcow2() hypervisor.Disk {
	t.Helper()
	pool := t.pool()
	t.must(t.Driver.CreateVolume(t.Context(), hypervisor.StorageVolumeSpec{Pool: pool.Name, Name: "disk.qcow2", Format: hypervisor.DiskQCOW2, Capacity: 8 << 20}))
	v, err := t.Driver.GetVolume(t.Context(), pool.Name, "disk.qcow2")
	t.must(err)
	return hypervisor.Disk{File: v.Path, Format: hypervisor.DiskQCOW2}
}

func domainSnapshots(t *suite) {
	ctx := t.Context()
	spec := blank()
	spec.Disks = []hypervisor.Disk{t.qcow2()}
	t.define(spec)
	first, second := `1 "<&'`, "zwei €"
	made, err := t.Driver.CreateSnapshot(ctx, spec.UUID, first, "what <was>")
	t.must(err)
	if made.Name != first || made.Description != "what <was>" || made.State != hypervisor.Off || made.Created.IsZero() {
		t.Errorf("made: %+v", made)
	}
	_, err = t.Driver.CreateSnapshot(ctx, spec.UUID, first, "")
	t.expectCode("the same name", err, fault.AlreadyExists)
	_, err = t.Driver.CreateSnapshot(ctx, spec.UUID, second, "")
	t.must(err)
	all, err := t.Driver.ListSnapshots(ctx, spec.UUID)
	t.must(err)
	byName := make(map[string]hypervisor.DomainSnapshot)
	for _, s := range all {
		byName[s.Name] = s
	}
	if len(all) != 2 || byName[second].Parent != first || !byName[second].Current || byName[first].Current {
		t.Errorf("snapshots: %+v", all)
	}
	t.must(t.Driver.RevertSnapshot(ctx, spec.UUID, first))
	t.expectState(spec.UUID, hypervisor.Off)
	t.must(t.Driver.DeleteSnapshot(ctx, spec.UUID, first))
	all, err = t.Driver.ListSnapshots(ctx, spec.UUID)
	t.must(err)
	if len(all) != 1 || all[0].Name != second || all[0].Parent != "" {
		t.Errorf("after the first has gone: %+v", all)
	}
	t.expectCode("revert", t.Driver.RevertSnapshot(ctx, spec.UUID, first), fault.NotFound)
	t.expectCode("delete", t.Driver.DeleteSnapshot(ctx, spec.UUID, first), fault.NotFound)
	t.must(t.Driver.DeleteSnapshot(ctx, spec.UUID, second))
}

func domainSnapshotsNeedQCOW2(t *suite) {
	spec := blank()
	t.define(spec)
	_, err := t.Driver.CreateSnapshot(t.Context(), spec.UUID, "s", "")
	t.expectCode("no disk", err, fault.FailedPrecondition)
	pool := t.pool()
	t.must(t.Driver.CreateVolume(t.Context(), hypervisor.StorageVolumeSpec{Pool: pool.Name, Name: "disk", Capacity: 1 << 20}))
	spec.Disks = []hypervisor.Disk{{File: filepath.Join(pool.Path, "disk")}}
	t.must(t.Driver.Define(t.Context(), spec))
	_, err = t.Driver.CreateSnapshot(t.Context(), spec.UUID, "s", "")
	t.expectCode("raw", err, fault.FailedPrecondition)
	_, err = t.Driver.ListSnapshots(t.Context(), uuid.NewString())
	t.expectCode("unknown", err, fault.NotFound)
}

func domainInterfaces(t *suite) {
	ctx := t.Context()
	n, spec := t.network(), blank()
	t.define(spec)
	cold := hypervisor.NIC{MAC: newMAC(), Network: n.Name, Model: "e1000"}
	t.must(t.Driver.AttachInterface(ctx, spec.UUID, cold))
	t.expectCode("the same MAC", t.Driver.AttachInterface(ctx, spec.UUID, cold), fault.AlreadyExists)
	t.must(t.Driver.StartDomain(ctx, spec.UUID))
	hot := hypervisor.NIC{MAC: newMAC(), Network: n.Name}
	t.must(t.Driver.AttachInterface(ctx, spec.UUID, hot))
	all, err := t.Driver.ListInterfaces(ctx, spec.UUID)
	t.must(err)
	var macs []string
	for _, i := range all {
		macs = append(macs, i.MAC)
		if i.Network != n.Name || i.Type != "network" {
			t.Errorf("card: %+v", i)
		}
	}
	expectSame(t, "cards", macs, []string{cold.MAC, hot.MAC})
	missing := hypervisor.NIC{MAC: newMAC(), Network: "nowhere-" + spec.UUID[:8]}
	t.expectCode("no such network", t.Driver.AttachInterface(ctx, spec.UUID, missing), fault.NotFound)
	t.expectCode("no such card", t.Driver.DetachInterface(ctx, spec.UUID, newMAC()), fault.NotFound)
	t.must(t.Driver.Kill(ctx, spec.UUID))
	t.must(t.Driver.DetachInterface(ctx, spec.UUID, strings.ToLower(cold.MAC)))
	m, err := t.Driver.Get(ctx, spec.UUID)
	t.must(err)
	if len(m.Spec.NICs) != 1 || m.Spec.NICs[0].MAC != hot.MAC {
		t.Errorf("cards for the next start: %+v", m.Spec.NICs)
	}
}

func domainsAreMeasured(t *suite) {
	ctx := t.Context()
	spec := blank()
	spec.Disks = []hypervisor.Disk{t.qcow2()}
	t.start(spec)
	all, err := t.Driver.MeasureDomains(ctx, "", hypervisor.StatsCPU)
	t.must(err)
	if !slices.ContainsFunc(all, func(f hypervisor.DomainFigures) bool {
		return f.UUID == spec.UUID && f.CPU.VCPUs == 1 && len(f.Disks) == 0
	}) {
		t.Errorf("figures: %+v", all)
	}
	one, err := t.Driver.MeasureDomains(ctx, spec.UUID, hypervisor.StatsAll)
	t.must(err)
	if len(one) != 1 || one[0].ID == 0 || one[0].State != hypervisor.Running || one[0].Memory.Total != 32<<10 || one[0].Memory.Resident == 0 ||
		len(one[0].Disks) != 1 || one[0].Disks[0].Path != spec.Disks[0].File || len(one[0].CPU.Each) != 1 {
		t.Errorf("figures: %+v", one)
	}
	t.must(t.Driver.Kill(ctx, spec.UUID))
	all, err = t.Driver.MeasureDomains(ctx, "", hypervisor.StatsCPU)
	t.must(err)
	if slices.ContainsFunc(all, func(f hypervisor.DomainFigures) bool { return f.UUID == spec.UUID }) {
		t.Error("a domain that is off is among those that are alive")
	}
	_, err = t.Driver.MeasureDomains(ctx, uuid.NewString(), hypervisor.StatsAll)
	t.expectCode("unknown", err, fault.NotFound)
	h, err := t.Driver.MeasureHost(ctx)
	t.must(err)
	if h.CPUs == 0 || h.User+h.Kernel == 0 || h.Idle == 0 || h.MemoryTotal < h.MemoryAvailable || h.MemoryAvailable < h.MemoryFree {
		t.Errorf("host: %+v", h)
	}
}

// cleanup has f called when the test ends. What the test has removed itself is no error.
func (t *suite) cleanup(f func(ctx context.Context) error) {
	t.Helper()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), t.Patience)
		defer cancel()
		if err := f(ctx); err != nil && !gone(err) {
			t.Errorf("cleanup: %v", err)
		}
	})
}
