package converters_test

import (
	"context"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hyperplane-project/hyperplane/converters"
	"github.com/hyperplane-project/hyperplane/converters/all"
	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/image/imagetest"
)

// failing is a disk that fails behind an offset.
type failing struct {
	*imagetest.Disk
	at int64
}

var errPulled = errors.New("the cable was pulled")

func (f failing) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > f.at {
		return 0, errPulled
	}
	return f.Disk.ReadAt(p, off)
}

// resumable is a target that is written in several runs.
type resumable struct {
	dir    string
	target converters.Target
}

func (r resumable) run(t *testing.T, src image.Reader, source string) (converters.Result, error) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(r.dir, "out"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	r.target.Out, r.target.ContentID = f, [16]byte{1}
	now := time.Unix(0, 0)
	o := converters.Options{SHA256: true, Workers: 3, Checkpoint: &converters.Checkpoint{
		Path: filepath.Join(r.dir, "checkpoint"), Source: source,
		Now: func() time.Time { now = now.Add(time.Minute); return now }, // every record is saved at once
	}}
	return all.Formats().Convert(t.Context(), converters.Source{Reader: src}, r.target, o)
}

// TestResume interrupts copies and takes them up: the result must be the same as that of a copy in one go, byte for byte.
func TestResume(t *testing.T) {
	t.Parallel()
	disk := imagetest.RandomDisk(5, 20_000_256)
	for name, target := range map[string]converters.Target{
		"raw": {Format: "raw"}, "qcow2": {Format: "qcow2"}, "qcow2 zlib": {Format: "qcow2", Compression: "zlib"}, "qcow2 zstd": {Format: "qcow2", Compression: "zstd"},
		"vmdk": {Format: "vmdk"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			whole, parts := resumable{t.TempDir(), target}, resumable{t.TempDir(), target}
			want, err := whole.run(t, disk, "disk")
			if err != nil {
				t.Fatal(err)
			}
			for _, at := range []int64{3 << 20, 9<<20 + 5, 15 << 20} {
				if _, err := parts.run(t, failing{disk, at}, "disk"); !errors.Is(err, errPulled) {
					t.Fatalf("the interrupted copy says %v", err)
				}
			}
			if _, err := parts.run(t, disk, "another disk"); !errors.Is(err, converters.ErrOtherCheckpoint) {
				t.Errorf("the checkpoint of another disk is taken: %v", err)
			}
			got, err := parts.run(t, disk, "disk")
			if err != nil {
				t.Fatal(err)
			}
			if got.Resumed < 8<<20 {
				t.Errorf("the copy went on at %d, though 15 MiB had been done", got.Resumed)
			}
			if got.SHA256 != want.SHA256 {
				t.Errorf("the content has sum %s, want %s", hex.EncodeToString(got.SHA256[:]), hex.EncodeToString(want.SHA256[:]))
			}
			sameBytes(t, filepath.Join(whole.dir, "out"), filepath.Join(parts.dir, "out"))
		})
	}
}

func sameBytes(t *testing.T, a, b string) {
	t.Helper()
	x, err := os.ReadFile(a)
	if err != nil {
		t.Fatal(err)
	}
	y, err := os.ReadFile(b)
	if err != nil {
		t.Fatal(err)
	}
	if len(x) != len(y) {
		t.Errorf("%d bytes, want %d", len(y), len(x))
	}
	for i := range min(len(x), len(y)) {
		if x[i] != y[i] {
			t.Fatalf("the files differ at offset %d", i)
		}
	}
}

// TestResumeFiles keeps an unfinished file under its hidden name and gives it to the next run.
func TestResumeFiles(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "disk.raw")
	o := converters.WriteOptions{Resume: true}
	err := converters.WriteFiles(t.Context(), path, o, func(_ context.Context, files *converters.Files) error {
		if _, err := files.Main().WriteString("half"); err != nil {
			return err
		}
		err := converters.WriteFiles(t.Context(), path, o, func(context.Context, *converters.Files) error { return nil })
		if err == nil {
			t.Error("two runs write the same unfinished file")
		}
		return errPulled
	})
	if !errors.Is(err, errPulled) {
		t.Fatal(err)
	}
	if _, err := os.Stat(converters.PartialName(path)); err != nil {
		t.Fatal(err)
	}
	err = converters.WriteFiles(t.Context(), path, o, func(_ context.Context, files *converters.Files) error {
		if resumed, err := files.Resumed(); err != nil || !resumed {
			t.Errorf("the unfinished file is not taken up: %v", err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "half" {
		t.Errorf("the file holds %q: %v", b, err)
	}
}

// TestFileIdentity tells disks apart that lie in one file, and does not wait for a pipe.
func TestFileIdentity(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path, pipe := filepath.Join(dir, "file"), filepath.Join(dir, "pipe")
	if err := errors.Join(os.WriteFile(path, []byte("content"), 0o600), unix.Mkfifo(pipe, 0o600)); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, o := range []image.OpenOptions{{}, {Snapshot: "a"}, {Snapshot: "b"}, {Member: "a"}, {SizeRule: image.SizeByCurrent}} {
		id, err := converters.FileIdentity(path, converters.OpenOptions{OpenOptions: o})
		if err != nil || seen[id] {
			t.Errorf("%+v: identity %s, %v", o, id, err)
		}
		seen[id] = true
	}
	if _, err := converters.FileIdentity(pipe, converters.OpenOptions{}); err == nil {
		t.Error("a pipe has an identity")
	}
}

// TestDiscardPartial removes what belongs to one target, and nothing of a target with a similar name.
func TestDiscardPartial(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	own := []string{".vm.vmdk.partial", ".vm.vmdk.partial.checkpoint", ".vm-s001.vmdk.partial", ".vm-flat.vmdk.partial"}
	others := []string{".vm-data.vmdk.partial", ".vm-2.vmdk.partial.checkpoint", ".vm.vmdk.partial-123", "vm.vmdk"}
	for _, name := range append(own, others...) {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := converters.DiscardPartial(filepath.Join(dir, "vm.vmdk")); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != len(others) {
		t.Errorf("%v is left, want %v: %v", left, others, err)
	}
}
