package hypervisortest

import (
	"bytes"
	"context"
	"os"
	"path/filepath"

	"github.com/google/uuid"

	"github.com/hyperplane-project/hyperplane/converters"
	"github.com/hyperplane-project/hyperplane/converters/qcow2"
	"github.com/hyperplane-project/hyperplane/converters/raw"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

func disksAreCopied(t *suite) {
	spec, ctx, dir := t.withDisks(2), t.Context(), t.TempDir()
	plain, packed := filepath.Join(dir, "a.raw"), filepath.Join(dir, "b.qcow2")
	wish := hypervisor.DiskCopies{Disks: []hypervisor.DiskCopy{
		{File: spec.Disks[1].File, To: plain}, {File: spec.Disks[0].File, To: packed, Format: hypervisor.DiskQCOW2},
	}}
	t.must(t.Driver.CopyDisks(ctx, spec.UUID, wish))
	t.expectSecond(plain)
	content, err := os.ReadFile(packed)
	t.must(err)
	if !bytes.HasPrefix(content, []byte("QFI\xfb")) || !bytes.Contains(content, bytes.Repeat([]byte{1}, 1<<16)) {
		t.Errorf("%s is no QCOW2 image with the disk's content", packed)
	}
	t.expectCode("files that are there", t.Driver.CopyDisks(ctx, spec.UUID, wish), fault.AlreadyExists)
	t.expectSecond(plain) // it has not been touched
	other := hypervisor.DiskCopies{Disks: []hypervisor.DiskCopy{{File: "/nowhere", To: filepath.Join(dir, "c")}}}
	t.expectCode("unknown disk", t.Driver.CopyDisks(ctx, spec.UUID, other), fault.NotFound)
	other.Disks[0].File = spec.Disks[0].File
	other.Checkpoint = "c1"
	t.expectCode("checkpoint of a raw disk", t.Driver.CopyDisks(ctx, spec.UUID, other), fault.FailedPrecondition)
	t.expectCode("unknown machine", t.Driver.CopyDisks(ctx, uuid.NewString(), other), fault.NotFound)
	t.must(t.Driver.AbandonCopies(ctx, spec.UUID))
	t.must(t.Driver.Kill(ctx, spec.UUID))
	t.expectCode("machine that is off", t.Driver.CopyDisks(ctx, spec.UUID, other), fault.FailedPrecondition)
	t.must(t.Driver.AbandonCopies(ctx, spec.UUID))
	t.must(t.Driver.AbandonCopies(ctx, uuid.NewString()))
	t.expectNoFile(filepath.Join(dir, "c"))
}

// qcow2Disk is rawDisk for a QCOW2 image.
func (t *suite) qcow2Disk(size int, with byte) hypervisor.Disk {
	t.Helper()
	d := hypervisor.Disk{File: filepath.Join(t.TempDir(), "disk.qcow2"), Format: hypervisor.DiskQCOW2}
	content := bytes.NewReader(bytes.Repeat([]byte{with}, size))
	t.must(converters.WriteFile(t.Context(), d.File, false, func(ctx context.Context, f *os.File) error {
		formats := converters.Formats{qcow2.Format(), raw.Format()}
		_, err := formats.Convert(ctx, converters.Source{Reader: raw.New(content, int64(size))}, converters.Target{Format: "qcow2", Out: f}, converters.Options{})
		return err
	}))
	return d
}

func changesAreCopied(t *suite) {
	spec, ctx, dir := blank(), t.Context(), t.TempDir()
	spec.Disks = []hypervisor.Disk{t.qcow2Disk(8<<20, 1)}
	t.start(spec)
	copyTo := func(name, since, checkpoint, base string) error {
		return t.Driver.CopyDisks(ctx, spec.UUID, hypervisor.DiskCopies{Since: since, Checkpoint: checkpoint, Disks: []hypervisor.DiskCopy{
			{File: spec.Disks[0].File, To: filepath.Join(dir, name), Format: hypervisor.DiskQCOW2, Base: base},
		}})
	}
	t.must(copyTo("full", "", "c1", ""))
	t.must(copyTo("more", "c1", "c2", "full"))
	full, err := os.Stat(filepath.Join(dir, "full"))
	t.must(err)
	more, err := os.Stat(filepath.Join(dir, "more"))
	t.must(err)
	if more.Size()*2 > full.Size() {
		t.Errorf("what has changed takes %d bytes, and everything %d", more.Size(), full.Size())
	}
	header := make([]byte, 4096)
	f, err := os.Open(filepath.Join(dir, "more"))
	t.must(err)
	_, err = f.Read(header)
	t.must(err)
	t.must(f.Close())
	if !bytes.Contains(header, []byte("full")) {
		t.Error("the copy does not say what it is based on")
	}
	t.must(t.Driver.DropCheckpoint(ctx, spec.UUID, "c2"))
	t.must(t.Driver.DropCheckpoint(ctx, spec.UUID, "c2"))
	t.must(t.Driver.DropCheckpoint(ctx, uuid.NewString(), "c2"))
	t.expectCode("no such checkpoint", copyTo("third", "c2", "", "more"), fault.NotFound)
	t.expectNoFile(filepath.Join(dir, "third"))
	t.must(copyTo("third", "c1", "", "full"))
}

func definitionIsRevised(t *suite) {
	spec, ctx := blank(), t.Context()
	disk, other, seed := t.rawDisk(1<<20, 1), t.rawDisk(1<<20, 2), t.rawDisk(1<<20, 3)
	spec.Disks, spec.Console = []hypervisor.Disk{disk}, hypervisor.ConsoleVNC
	t.start(spec)
	definition, err := t.Driver.Definition(ctx, spec.UUID)
	t.must(err)
	was, err := t.Driver.DescribeDefinition(definition)
	t.must(err)
	if was.UUID != spec.UUID || was.Name != spec.Name || was.CPUs != 1 || was.MemoryBytes != 32<<20 || len(was.Disks) != 1 || was.Disks[0].File != disk.File || was.Disks[0].Target == "" {
		t.Errorf("described as %+v", was)
	}
	id := uuid.NewString()
	revised, err := t.Driver.ReviseDefinition(definition, hypervisor.Revision{
		UUID: id, Name: "revised-" + id[:8], CPUs: 2, MemoryBytes: 64 << 20, Seed: seed.File, Eject: true,
	})
	t.must(err)
	t.Cleanup(func() { t.remove(id) })
	t.must(t.Driver.Redefine(ctx, revised, []string{other.File}))
	t.must(t.Driver.StartDomain(ctx, id)) // beside the other one, which runs
	now, err := t.Driver.Definition(ctx, id)
	t.must(err)
	is, err := t.Driver.DescribeDefinition(now)
	t.must(err)
	if is.CPUs != 2 || is.MemoryBytes != 64<<20 || is.Disks[0].File != other.File || len(is.Drives) != 1 || is.Drives[0].File != seed.File {
		t.Errorf("described as %+v", is)
	}
	t.must(t.Driver.SetAutostart(ctx, id, true))
	t.expectCode("no such machine", t.Driver.SetAutostart(ctx, uuid.NewString(), true), fault.NotFound)
	_, err = t.Driver.DescribeDefinition([]byte("<nonsense"))
	t.expectCode("no definition", err, fault.InvalidArgument)
	_, err = t.Driver.ReviseDefinition(definition, hypervisor.Revision{MACs: []string{"52:54:00:00:00:01"}})
	t.expectCode("too many addresses", err, fault.InvalidArgument)
}

func mediumIsChanged(t *suite) {
	spec, ctx := blank(), t.Context()
	spec.Disks = []hypervisor.Disk{t.rawDisk(1<<20, 1)}
	first, second := t.rawDisk(1<<20, 2).File, t.rawDisk(1<<20, 3).File
	t.start(spec)
	_, err := t.Driver.ChangeMedium(ctx, spec.UUID, "", first)
	t.expectCode("no drive while it runs", err, fault.FailedPrecondition)
	t.must(t.Driver.Kill(ctx, spec.UUID))
	device, err := t.Driver.ChangeMedium(ctx, spec.UUID, "", first)
	t.must(err)
	holds := func(want string) {
		t.Helper()
		definition, err := t.Driver.Definition(ctx, spec.UUID)
		t.must(err)
		layout, err := t.Driver.DescribeDefinition(definition)
		t.must(err)
		if len(layout.Drives) != 1 || layout.Drives[0] != (hypervisor.Drive{Device: device, File: want}) {
			t.Errorf("drives %+v, want %s with %q", layout.Drives, device, want)
		}
	}
	holds(first)
	t.must(t.Driver.StartDomain(ctx, spec.UUID))
	for _, file := range []string{second, "", first, ""} {
		if _, err := t.Driver.ChangeMedium(ctx, spec.UUID, device, file); err != nil {
			t.Fatalf("%q: %v", file, err)
		}
		holds(file)
	}
	t.must(t.Driver.Kill(ctx, spec.UUID))
	t.must(t.Driver.StartDomain(ctx, spec.UUID))
	_, err = t.Driver.ChangeMedium(ctx, spec.UUID, "nodrive", first)
	t.expectCode("no such drive", err, fault.NotFound)
	_, err = t.Driver.ChangeMedium(ctx, uuid.NewString(), device, first)
	t.expectCode("no such machine", err, fault.NotFound)
}
