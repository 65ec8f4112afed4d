package raw_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/image/imagetest"
	"github.com/hyperplane-project/hyperplane/converters/raw"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// TestHoles checks that the file system's holes are the disk's.
func TestHoles(t *testing.T) {
	t.Parallel()
	disk := &imagetest.Disk{Size: 1 << 30, Pieces: []imagetest.Piece{{Off: 100 << 20, Len: 1 << 20, Content: imagetest.Random}}}
	f, err := os.Open(imagetest.Raw(t, disk))
	if err != nil {
		t.Fatal(err)
	}
	r, err := raw.OpenFile(f)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	var kinds []image.Kind
	for off := int64(0); off < disk.Size; {
		e, err := r.NextExtent(off)
		if err != nil {
			t.Fatal(err)
		}
		kinds = append(kinds, e.Kind)
		off += e.Len
	}
	if len(kinds) != 3 || kinds[0] != image.Hole || kinds[1] != image.Data || kinds[2] != image.Hole {
		t.Errorf("extents are %v, want hole, data, hole; does the file system of the temporary folder have holes?", kinds)
	}
}

func TestOpenFileRefuses(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/dev/null", t.TempDir()} {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := raw.OpenFile(f); !fault.Is(err, fault.InvalidArgument) {
			t.Errorf("%s: %v, want InvalidArgument", path, err)
		}
		_ = f.Close()
	}
}

// TestShrunkFile reads a file that became shorter after it was opened.
func TestShrunkFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, make([]byte, 10_000), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	r, err := raw.OpenFile(f)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	if err := os.Truncate(path, 5000); err != nil {
		t.Fatal(err)
	}
	if n, err := r.ReadAt(make([]byte, 10_000), 0); n != 5000 || err == nil {
		t.Errorf("reading gives %d bytes, %v", n, err)
	}
}

func TestStreamNeedsSize(t *testing.T) {
	t.Parallel()
	if _, err := raw.OpenStream(nil, -1); !fault.Is(err, fault.InvalidArgument) {
		t.Errorf("error is %v, want InvalidArgument", err)
	}
}
