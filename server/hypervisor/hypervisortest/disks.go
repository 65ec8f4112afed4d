package hypervisortest

import (
	"bytes"
	"context"
	"os"
	"path/filepath"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// rawDisk makes a disk of the given size that is full of one byte.
func (t *suite) rawDisk(size int, with byte) hypervisor.Disk {
	t.Helper()
	file := filepath.Join(t.TempDir(), "disk.raw")
	t.must(os.WriteFile(file, bytes.Repeat([]byte{with}, size), 0o600))
	return hypervisor.Disk{File: file}
}

// withDisks is a running machine without an operating system, with disks of 1 MiB.
func (t *suite) withDisks(n int) hypervisor.Spec {
	t.Helper()
	spec := blank()
	for i := range n {
		spec.Disks = append(spec.Disks, t.rawDisk(1<<20, byte(i+1)))
	}
	t.start(spec)
	return spec
}

// expectDisks compares the disks that the machine has now, and still has after it was started anew.
func (t *suite) expectDisks(id string, want ...hypervisor.Disk) {
	t.Helper()
	got, err := t.Driver.Get(t.Context(), id)
	t.must(err)
	expectSame(t, "disks", got.Spec.Disks, want)
}

// expectSecond expects what withDisks put into the second disk.
func (t *suite) expectSecond(file string) {
	t.Helper()
	content, err := os.ReadFile(file)
	t.must(err)
	if !bytes.Equal(content, bytes.Repeat([]byte{2}, 1<<20)) {
		t.Errorf("%s has %d bytes, or not those that are expected", file, len(content))
	}
}

func (t *suite) expectNoFile(file string) {
	t.Helper()
	if _, err := os.Lstat(file); !os.IsNotExist(err) {
		t.Errorf("%s is there: %v", file, err)
	}
}

func diskComesAndGrows(t *suite) {
	spec, ctx := t.withDisks(1), t.Context()
	more, scsi := t.rawDisk(1<<20, 7), t.rawDisk(1<<20, 8)
	scsi.Bus = hypervisor.BusSCSI
	t.must(t.Driver.AttachDisk(ctx, spec.UUID, more))
	t.must(t.Driver.AttachDisk(ctx, spec.UUID, scsi))
	t.expectDisks(spec.UUID, spec.Disks[0], more, scsi)
	for range 2 {
		t.must(t.Driver.ResizeDisk(ctx, spec.UUID, more.File, 3<<20))
	}
	info, err := os.Stat(more.File)
	t.must(err)
	if info.Size() != 3<<20 {
		t.Errorf("the file has %d bytes", info.Size())
	}
	t.expectCode("shrink", t.Driver.ResizeDisk(ctx, spec.UUID, more.File, 1<<20), fault.InvalidArgument)
	t.expectCode("odd size", t.Driver.ResizeDisk(ctx, spec.UUID, more.File, 4<<20+1), fault.InvalidArgument)
	t.expectCode("unknown disk", t.Driver.ResizeDisk(ctx, spec.UUID, "/nowhere", 4<<20), fault.NotFound)
	t.must(t.Driver.Kill(ctx, spec.UUID))
	t.expectDisks(spec.UUID, spec.Disks[0], more, scsi)
	t.must(t.Driver.Start(ctx, spec.UUID))
	t.expectDisks(spec.UUID, spec.Disks[0], more, scsi)
}

func diskAttachRefuses(t *suite) {
	spec, ctx := t.withDisks(1), t.Context()
	more := t.rawDisk(1<<20, 7)
	with := func(change func(*hypervisor.Disk)) hypervisor.Disk {
		d := more
		change(&d)
		return d
	}
	for name, test := range map[string]struct {
		disk hypervisor.Disk
		want fault.Code
	}{
		"there already": {spec.Disks[0], fault.AlreadyExists},
		"no file":       {hypervisor.Disk{File: "/nowhere/x.raw"}, fault.FailedPrecondition},
		"relative path": {hypervisor.Disk{File: "x.raw"}, fault.InvalidArgument},
		"IDE":           {with(func(d *hypervisor.Disk) { d.Bus = hypervisor.BusIDE }), fault.FailedPrecondition},
		"SATA":          {with(func(d *hypervisor.Disk) { d.Bus = hypervisor.BusSATA }), fault.FailedPrecondition},
		"CD-ROM":        {with(func(d *hypervisor.Disk) { d.CDROM = true }), fault.FailedPrecondition},
		"NVMe":          {with(func(d *hypervisor.Disk) { d.Bus = hypervisor.BusNVMe }), fault.FailedPrecondition},
	} {
		t.expectCode(name, t.Driver.AttachDisk(ctx, spec.UUID, test.disk), test.want)
	}
	t.expectDisks(spec.UUID, spec.Disks...)
	t.must(t.Driver.Kill(ctx, spec.UUID))
	for name, err := range map[string]error{
		"attach":   t.Driver.AttachDisk(ctx, spec.UUID, more),
		"detach":   t.Driver.DetachDisk(ctx, spec.UUID, spec.Disks[0].File),
		"resize":   t.Driver.ResizeDisk(ctx, spec.UUID, spec.Disks[0].File, 4<<20),
		"move":     t.Driver.MoveDisk(ctx, spec.UUID, spec.Disks[0].File, more.File+".moved", nil),
		"redirect": t.Driver.RedirectDisks(ctx, spec.UUID, map[string]string{spec.Disks[0].File: more.File + ".redirect"}),
	} {
		t.expectCode(name+" while it is off", err, fault.FailedPrecondition)
	}
	t.expectCode("unknown machine", t.Driver.AttachDisk(ctx, blank().UUID, more), fault.NotFound)
}

// diskDetachRefuses asks a guest that does not execute; the guests of the drivers' own tests obey.
func diskDetachRefuses(t *suite) {
	spec, ctx := t.withDisks(2), t.Context()
	t.expectCode("first disk", t.Driver.DetachDisk(ctx, spec.UUID, spec.Disks[0].File), fault.FailedPrecondition)
	t.expectCode("unknown disk", t.Driver.DetachDisk(ctx, spec.UUID, "/nowhere"), fault.NotFound)
	t.SetPaused(t.T, spec.UUID, true)
	t.awaitState(spec.UUID, hypervisor.Paused)
	t.expectCode("paused guest", t.Driver.DetachDisk(ctx, spec.UUID, spec.Disks[1].File), fault.FailedPrecondition)
	t.SetPaused(t.T, spec.UUID, false)
	t.expectDisks(spec.UUID, spec.Disks...)
}

func diskMoves(t *suite) {
	spec, ctx := t.withDisks(2), t.Context()
	from, to := spec.Disks[1].File, filepath.Join(t.TempDir(), "moved.raw")
	t.expectCode("onto a file", t.Driver.MoveDisk(ctx, spec.UUID, from, spec.Disks[0].File, nil), fault.AlreadyExists)
	t.expectCode("unknown disk", t.Driver.MoveDisk(ctx, spec.UUID, "/nowhere", to, nil), fault.NotFound)
	t.expectNoFile(to)
	var done, total uint64
	t.must(t.Driver.MoveDisk(ctx, spec.UUID, from, to, func(d, n uint64) { done, total = d, n }))
	if done != total {
		t.Errorf("progress ended at %d of %d", done, total)
	}
	t.expectSecond(to)
	t.expectSecond(from)
	moved := []hypervisor.Disk{spec.Disks[0], {File: to}}
	t.expectDisks(spec.UUID, moved...)
	t.must(os.Remove(from))
	t.must(t.Driver.Kill(ctx, spec.UUID))
	t.must(t.Driver.Start(ctx, spec.UUID))
	t.expectDisks(spec.UUID, moved...)
}

// diskMoveIsAbandoned ends the context when the copy has begun.
func diskMoveIsAbandoned(t *suite) {
	spec := blank()
	spec.Disks = []hypervisor.Disk{t.rawDisk(1<<20, 1), t.rawDisk(64<<20, 2)}
	t.start(spec)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	to := filepath.Join(t.TempDir(), "moved.raw")
	err := t.Driver.MoveDisk(ctx, spec.UUID, spec.Disks[1].File, to, func(uint64, uint64) { cancel() })
	if err == nil { // the end came too late
		t.expectDisks(spec.UUID, spec.Disks[0], hypervisor.Disk{File: to})
		return
	}
	t.expectCode("move", err, fault.Canceled)
	t.expectNoFile(to)
	t.expectDisks(spec.UUID, spec.Disks...)
	t.must(t.Driver.MoveDisk(t.Context(), spec.UUID, spec.Disks[1].File, to, nil))
	t.expectDisks(spec.UUID, spec.Disks[0], hypervisor.Disk{File: to})
}

func (t *suite) overlays(spec hypervisor.Spec) map[string]string {
	all := make(map[string]string)
	for _, d := range spec.Disks {
		all[d.File] = d.File + ".redirect"
	}
	return all
}

func disksAreRedirected(t *suite) {
	spec, ctx := t.withDisks(2), t.Context()
	overlays := t.overlays(spec)
	t.must(t.Driver.MergeDisks(ctx, spec.UUID, overlays)) // nothing is redirected
	for range 2 {
		t.must(t.Driver.RedirectDisks(ctx, spec.UUID, overlays))
		for _, overlay := range overlays {
			if _, err := os.Stat(overlay); err != nil {
				t.Error(err)
			}
		}
		t.expectCode("once more", t.Driver.RedirectDisks(ctx, spec.UUID, overlays), fault.FailedPrecondition)
		for range 2 {
			t.must(t.Driver.MergeDisks(ctx, spec.UUID, overlays))
		}
		for _, overlay := range overlays {
			t.expectNoFile(overlay)
		}
		t.expectDisks(spec.UUID, spec.Disks...)
	}
	t.expectCode("unknown disk", t.Driver.RedirectDisks(ctx, spec.UUID, map[string]string{"/nowhere": "/nowhere.redirect"}), fault.NotFound)
	t.expectSecond(spec.Disks[1].File)
}

// disksAreMergedOff has the machine end between the two, as when host and daemon lose their power.
func disksAreMergedOff(t *suite) {
	spec, ctx := t.withDisks(2), t.Context()
	overlays := t.overlays(spec)
	t.must(t.Driver.RedirectDisks(ctx, spec.UUID, overlays))
	t.Crash(t.T, spec.UUID)
	t.awaitState(spec.UUID, hypervisor.Crashed)
	t.expectCode("define", t.Driver.Define(ctx, spec), fault.FailedPrecondition)
	for range 2 {
		t.must(t.Driver.MergeDisks(ctx, spec.UUID, overlays))
	}
	for _, overlay := range overlays {
		t.expectNoFile(overlay)
	}
	t.expectDisks(spec.UUID, spec.Disks...)
	t.expectSecond(spec.Disks[1].File)
	t.must(t.Driver.Define(ctx, spec))
	t.must(t.Driver.Start(ctx, spec.UUID))
}

func monitorAnswers(t *suite) {
	spec, ctx := blank(), t.Context()
	t.start(spec)
	for command, want := range map[string]string{
		`{"execute":"query-name"}`:            `"return":`,
		`{"execute":"query-status","id":[7]}`: `"id":[7]`,
		`{"execute":"no-such-command"}`:       `"error":`,
	} {
		answer, err := t.Driver.MonitorCommand(ctx, spec.UUID, []byte(command))
		t.must(err)
		if !bytes.Contains(answer, []byte(want)) || bytes.ContainsAny(answer, "\r\n") {
			t.Errorf("%s: %s", command, answer)
		}
	}
	for _, command := range []string{"", "{", "[]", "null", `{} {}`} {
		_, err := t.Driver.MonitorCommand(ctx, spec.UUID, []byte(command))
		t.expectCode(command, err, fault.InvalidArgument)
	}
	t.must(t.Driver.Kill(ctx, spec.UUID))
	_, err := t.Driver.MonitorCommand(ctx, spec.UUID, []byte(`{"execute":"query-name"}`))
	t.expectCode("off", err, fault.FailedPrecondition)
}
