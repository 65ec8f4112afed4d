package imagetest

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/internal/engine"
)

// Forward writes to an output that only takes bytes in their order, and reads the result back.
func Forward(t *testing.T, h Harness) {
	t.Helper()
	h.each(t, func(t *testing.T, v Variant) {
		t.Helper()
		if v.Several {
			return
		}
		disks := []*Disk{
			RandomDisk(61, 3_345_678),
			{Size: 0},
			{Size: 70_000},
			{Size: 5 << 20, Pieces: []Piece{{1 << 20, 2 << 20, Zeros}, {3 << 20, 1 << 20, Random}}},
			{Size: 80 << 20, Pieces: []Piece{{1 << 20, 70_000, Random}, {75 << 20, 70_000, Text}}},
		}
		for _, disk := range disks {
			path, ok := writeForward(t, h, v, disk)
			if !ok {
				return
			}
			Same(t, disk, Open(t, h, path))
		}
	})
}

// writeForward reports whether the variant can be written so.
func writeForward(t *testing.T, h Harness, v Variant, disk *Disk) (path string, ok bool) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "disk."+h.Format.Name))
	if err != nil {
		t.Fatal(err)
	}
	defer closeFile(t, f)
	out := engine.NewForward(f)
	o := v.Options
	o.VirtualSize, o.ContentID = disk.Size, contentID
	w, err := h.Format.Create(out, o)
	if err != nil {
		t.Fatal(err)
	}
	forwarder, ok := w.(image.Forwarder)
	if !ok || forwarder.Forward() != nil {
		return "", false
	}
	if err := engine.Copy(t.Context(), disk, w, out, engine.Options{Workers: 4, Forward: true}); err != nil {
		t.Fatal(err)
	}
	if err := w.Finish(); err != nil {
		t.Fatal(err)
	}
	return f.Name(), true
}
