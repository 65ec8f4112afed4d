package imagetest

import (
	"cmp"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/internal/procexec"
)

// Qemu runs qemu-img and returns its output. A missing qemu-img fails the test: nothing else proves that others read what is written here.
func Qemu(t *testing.T, args ...string) string {
	t.Helper()
	res, err := procexec.Runner{}.Run(t.Context(), procexec.Command{Program: "qemu-img", Args: args})
	if err != nil {
		t.Fatalf("qemu-img %q: %v (if it is missing, install qemu-utils)\n%s", args, err, res.Stdout)
	}
	return string(res.Stdout)
}

// Raw writes a disk's content to a raw file and returns its path. The size is rounded up to a sector, as every format with sectors does.
func Raw(t *testing.T, r image.Reader) string {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "disk.raw"))
	if err != nil {
		t.Fatal(err)
	}
	defer closeFile(t, f)
	size := r.Info().VirtualSize
	if err := f.Truncate((size + 511) / 512 * 512); err != nil {
		t.Fatal(err)
	}
	for off := int64(0); off < size; {
		e, err := r.NextExtent(off)
		if err != nil {
			t.Fatal(err)
		}
		if e.Kind == image.Data {
			p := make([]byte, e.Len)
			read(t, r, p, e.Off)
			if _, err := f.WriteAt(p, e.Off); err != nil {
				t.Fatal(err)
			}
		}
		off += e.Len
	}
	return f.Name()
}

// QemuReads writes disks and has qemu-img check them and compare them with the same disk as raw file.
func QemuReads(t *testing.T, h Harness) {
	t.Helper()
	h.each(t, func(t *testing.T, v Variant) {
		t.Helper()
		full := &Disk{Size: 2<<20 + 512, Pieces: []Piece{{0, 2<<20 + 512, Text}}}
		for _, disk := range []*Disk{RandomDisk(41, 4_000_256), full, {Size: 1 << 20}} {
			if slices.Contains(v.Unreadable, "qemu") {
				continue
			}
			path, format := Write(t, h, v, disk), cmp.Or(v.QemuFormat, h.QemuFormat)
			if h.QemuChecks {
				Qemu(t, "check", "-f", format, path)
			}
			Qemu(t, "compare", "-f", "raw", "-F", format, Raw(t, disk), path)
		}
	})
}

// ReadsQemu reads what qemu-img writes.
func ReadsQemu(t *testing.T, h Harness) {
	t.Helper()
	for name, args := range h.QemuCreate {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, disk := range []*Disk{RandomDisk(43, 4_000_256), {Size: 70_144, Pieces: []Piece{{0, 70_144, Text}}}} {
				path := filepath.Join(t.TempDir(), "disk."+h.Format.Name)
				Qemu(t, append(append([]string{"convert", "-f", "raw", "-O", h.QemuFormat}, args...), Raw(t, disk), path)...)
				Same(t, disk, Open(t, h, path))
			}
		})
	}
}
