package engine_test

import (
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/image/imagetest"
	"github.com/hyperplane-project/hyperplane/converters/internal/engine"
	"github.com/hyperplane-project/hyperplane/converters/qcow2"
	"github.com/hyperplane-project/hyperplane/converters/raw"
	"github.com/hyperplane-project/hyperplane/converters/vdi"
	"github.com/hyperplane-project/hyperplane/converters/vhdx"
)

// cloneOutput clones by copying, as far as it is allowed to, and checks the alignment a file system would ask for.
type cloneOutput struct {
	*os.File
	t       *testing.T
	allowed int64 // clones after which every further one fails
	clones  atomic.Int64
}

var errNoClone = errors.New("cannot clone")

func (o *cloneOutput) Clone(from *os.File, fromOff, toOff, n int64) error {
	if o.clones.Add(1) > o.allowed {
		return errNoClone
	}
	st, err := from.Stat()
	if err != nil {
		return err
	}
	if fromOff%4096 != 0 || toOff%4096 != 0 || n%4096 != 0 && fromOff+n != st.Size() {
		o.t.Errorf("clone of %d bytes from %d to %d is not aligned", n, fromOff, toOff)
	}
	p := make([]byte, n)
	if _, err := from.ReadAt(p, fromOff); err != nil {
		return err
	}
	_, err = o.WriteAt(p, toOff)
	return err
}

// TestClone copies from a file to an output that can clone always, never, or only at first: a disk of small pieces, and one of a large piece, which is
// cloned at once.
func TestClone(t *testing.T) {
	t.Parallel()
	for what, disk := range map[string]*imagetest.Disk{
		"small pieces":         imagetest.RandomDisk(3, 6_000_128),
		"two pieces in a unit": {Size: 4 << 20, Pieces: []imagetest.Piece{{Off: 0, Len: 600 << 10, Content: imagetest.Random}, {Off: 700 << 10, Len: 1 << 20, Content: imagetest.Random}}},
		"a large piece":        {Size: 14<<20 + 512, Pieces: []imagetest.Piece{{Off: 0, Len: 4096, Content: imagetest.Text}, {Off: 1<<20 + 8192, Len: 11 << 20, Content: imagetest.Random}, {Off: 14 << 20, Len: 512, Content: imagetest.Text}}},
	} {
		path := imagetest.Raw(t, disk)
		for name, allowed := range map[string]int64{"always": 1 << 30, "never": 0, "at first": 2} {
			for _, format := range []image.Format{raw.Format(), qcow2.Format(), vdi.Format(), vhdx.Format()} {
				t.Run(what+" "+name+" to "+format.Name, func(t *testing.T) {
					t.Parallel()
					testClone(t, disk, path, format, allowed)
				})
			}
		}
	}
}

func testClone(t *testing.T, disk *imagetest.Disk, path string, format image.Format, allowed int64) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	out := &cloneOutput{File: f, t: t, allowed: allowed}
	copyRaw(t, path, format, out)
	switch n := out.clones.Load(); {
	case allowed > 2 && (n < 3 || n > 60):
		t.Errorf("there were %d clones", n)
	case allowed == 0 && n > 1:
		t.Errorf("%d clones were tried where none is possible", n)
	}
	imagetest.Same(t, disk, imagetest.Open(t, imagetest.Harness{Format: format}, f.Name()))
}

func copyRaw(t *testing.T, path string, format image.Format, out image.Output) {
	t.Helper()
	in, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	src, err := raw.OpenFile(in)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = src.Close() }()
	w, err := format.Create(out, image.CreateOptions{VirtualSize: src.Info().VirtualSize})
	if err != nil {
		t.Fatal(err)
	}
	if err := engine.Copy(t.Context(), src, w, out, engine.Options{Workers: 3}); err != nil {
		t.Fatal(err)
	}
	if err := w.Finish(); err != nil {
		t.Fatal(err)
	}
}
