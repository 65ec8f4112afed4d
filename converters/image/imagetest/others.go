package imagetest

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/internal/procexec"
)

// libyalScript writes the content of an image to a raw file with one of libyal's Python modules.
const libyalScript = `
import importlib, sys
module, path, raw = importlib.import_module(sys.argv[1]), sys.argv[2], sys.argv[3]
f = getattr(module, {"pyvhdi": "file", "pyvmdk": "handle", "pyqcow": "file"}[sys.argv[1]])()
f.open(path)
if sys.argv[1] == "pyvmdk":
    f.open_extent_data_files()
with open(raw, "wb") as out:
    left = f.get_media_size()
    while left > 0:
        b = f.read(min(left, 1 << 20))
        if not b:
            raise IOError("the image ends early")
        out.write(b)
        left -= len(b)
`

// OthersRead writes disks and has 7-Zip and libyal read them: implementations that share nothing with this one or with QEMU.
func OthersRead(t *testing.T, h Harness) {
	t.Helper()
	h.each(t, func(t *testing.T, v Variant) {
		t.Helper()
		for _, disk := range []*Disk{RandomDisk(47, 4_000_256), {Size: 1 << 20, Pieces: []Piece{{0, 1 << 20, Text}}}} {
			want := Raw(t, disk)
			if h.SevenZip != "" && !slices.Contains(v.Unreadable, "7zip") {
				path := Write(t, h, v, disk)
				run(t, "7zz", "x", "-t"+h.SevenZip, "-o"+filepath.Join(filepath.Dir(path), "out"), path)
				sameAsRaw(t, "7-Zip", want, onlyFile(t, filepath.Join(filepath.Dir(path), "out")))
			}
			if h.Libyal != "" && !slices.Contains(v.Unreadable, "libyal") {
				path := Write(t, h, v, disk)
				raw := filepath.Join(filepath.Dir(path), "disk.libyal")
				run(t, "/usr/bin/python3", "-c", libyalScript, h.Libyal, path, raw)
				sameAsRaw(t, "libyal", want, raw)
			}
		}
	})
}

func run(t *testing.T, program string, args ...string) {
	t.Helper()
	res, err := procexec.Runner{}.Run(t.Context(), procexec.Command{Program: program, Args: args})
	if err != nil {
		t.Fatalf("%s: %v (if it is missing: make deps)\n%s", program, err, res.Stdout)
	}
}

func onlyFile(t *testing.T, dir string) string {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 1 {
		t.Fatalf("7-Zip unpacked %d files: %v", len(files), err)
	}
	return filepath.Join(dir, files[0].Name())
}

// sameAsRaw compares two raw files. The one that another program read may be longer by zeros.
func sameAsRaw(t *testing.T, who, want, got string) {
	t.Helper()
	a, b := openFile(t, want), openFile(t, got)
	defer closeFile(t, a)
	defer closeFile(t, b)
	if b.Size() < a.Size() {
		t.Fatalf("%s reads %d bytes, want %d", who, b.Size(), a.Size())
	}
	p, q := make([]byte, b.Size()), make([]byte, b.Size())
	read(t, a, p[:a.Size()], 0)
	read(t, b, q, 0)
	if at := firstDifference(p, q); at < len(p) {
		t.Errorf("%s reads other content at offset %d", who, at)
	}
}

// ChecksClean examines what was written: nothing may be found.
func ChecksClean(t *testing.T, h Harness) {
	t.Helper()
	h.each(t, func(t *testing.T, v Variant) {
		t.Helper()
		for _, disk := range []*Disk{RandomDisk(51, 4_000_256), {Size: 1 << 20}} {
			c, ok := Open(t, h, Write(t, h, v, disk)).(image.Checker)
			if !ok {
				return
			}
			err := c.Check(t.Context(), func(f image.Finding) { t.Errorf("%s at offset %d: %s", f.Severity, f.Offset, f.Text) })
			if err != nil {
				t.Error(err)
			}
		}
	})
}

// InfoOnly opens an image for its description alone: no other file may be asked for.
func InfoOnly(t *testing.T, h Harness) {
	t.Helper()
	h.each(t, func(t *testing.T, v Variant) {
		t.Helper()
		path := Write(t, h, v, RandomDisk(53, 1_000_448))
		want := Open(t, h, path).Info()
		r, err := h.Format.Open(openFile(t, path), image.OpenOptions{InfoOnly: true})
		if err != nil {
			t.Fatal(err)
		}
		defer closeFile(t, r)
		got := r.Info()
		if got.VirtualSize != want.VirtualSize || got.Variant != want.Variant || got.Format != h.Format.Name {
			t.Errorf("opened for its description the image is %s %s of %d bytes, otherwise %s %s of %d", got.Format, got.Variant, got.VirtualSize,
				want.Format, want.Variant, want.VirtualSize)
		}
		if v.Several != (len(got.References) > 0) {
			t.Errorf("the image names %d other files", len(got.References))
		}
	})
}
