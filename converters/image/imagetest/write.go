package imagetest

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/internal/engine"
)

// RoundTrip writes disks with random content at random places and reads them back.
func RoundTrip(t *testing.T, h Harness) {
	t.Helper()
	h.each(t, func(t *testing.T, v Variant) {
		t.Helper()
		for seed := range uint64(2) {
			disk := RandomDisk(seed, 2_500_000+int64(seed)*4099)
			Same(t, disk, Open(t, h, Write(t, h, v, disk)))
		}
	})
}

// OddSizes writes disks whose size is nothing in particular, full and empty.
func OddSizes(t *testing.T, h Harness) {
	t.Helper()
	h.each(t, func(t *testing.T, v Variant) {
		t.Helper()
		for _, size := range []int64{0, 1, 512, 513, 4097, 65535, 65537, 1<<20 + 12345} {
			for _, pieces := range [][]Piece{{{0, size, Text}}, {{max(0, size-1), min(1, size), Random}}} {
				disk := &Disk{Size: size, Pieces: pieces}
				t.Logf("%d bytes, %v", size, pieces)
				Same(t, disk, Open(t, h, write(t, h, v, disk, 1)))
			}
		}
	})
}

// HugeSparse writes a disk of more than 2 TiB that holds almost nothing. The file must be small.
func HugeSparse(t *testing.T, h Harness) {
	t.Helper()
	h.each(t, func(t *testing.T, v Variant) {
		t.Helper()
		size := h.huge(v)
		disk := &Disk{Size: size, Pieces: []Piece{{0, 100, Random}, {1 << 31, 70_000, Text}, {size - 5<<20 + 1, 1 << 20, Random}, {size - 1, 1, Random}}}
		path := Write(t, h, v, disk)
		if used := blocksUsed(t, filepath.Dir(path)); used > 64<<20 {
			t.Errorf("the files of an almost empty disk use %d bytes", used)
		}
		Same(t, disk, Open(t, h, path))
	})
}

// huge returns the size of a disk of more than 2 TiB, or of the largest there is.
func (h Harness) huge(v Variant) int64 {
	const size = 2<<40 + 5<<30 + 512
	for _, limit := range []int64{v.MaxSize, h.MaxSize} {
		if limit > 0 {
			return min(limit, size)
		}
	}
	return size
}

// blocksUsed returns how much room the files of a folder take.
func blocksUsed(t *testing.T, dir string) (used int64) {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		var st unix.Stat_t
		if err := unix.Stat(filepath.Join(dir, f.Name()), &st); err != nil {
			t.Fatal(err)
		}
		used += st.Blocks * 512
	}
	return used
}

// ZerosLeftOut writes zeros and checks that the file has no room for them.
func ZerosLeftOut(t *testing.T, h Harness) {
	t.Helper()
	h.each(t, func(t *testing.T, v Variant) {
		t.Helper()
		if v.Fixed {
			return
		}
		disk := &Disk{Size: 32 << 20, Pieces: []Piece{{0, 1 << 20, Random}, {1 << 20, 8 << 20, Zeros}}}
		r := Open(t, h, Write(t, h, v, disk))
		var data int64
		for off := int64(0); off < disk.Size; {
			e, err := r.NextExtent(off)
			if err != nil {
				t.Fatal(err)
			}
			if e.Kind == image.Data {
				data += e.Len
			}
			off += e.Len
		}
		if want := max(1<<20, r.Info().ClusterSize); data != want {
			t.Errorf("%d bytes are stored as data, want %d", data, want)
		}
	})
}

// Deterministic writes a disk with different numbers of workers: the file must be the same.
func Deterministic(t *testing.T, h Harness) {
	t.Helper()
	h.each(t, func(t *testing.T, v Variant) {
		t.Helper()
		disk := RandomDisk(7, 3_345_678)
		one, five := filepath.Dir(write(t, h, v, disk, 1)), filepath.Dir(write(t, h, v, disk, 5))
		files, err := os.ReadDir(one)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			sameFile(t, filepath.Join(one, f.Name()), filepath.Join(five, f.Name()))
		}
	})
}

func sameFile(t *testing.T, a, b string) {
	t.Helper()
	first, err := os.ReadFile(a)
	if err != nil {
		t.Fatal(err)
	}
	second, err := os.ReadFile(b)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first, second) {
		t.Errorf("%s differs at offset %d; the files have %d and %d bytes", filepath.Base(a), firstDifference(first[:min(len(first), len(second))], second),
			len(first), len(second))
	}
}

// fullOutput is an output that has room for so many bytes.
type fullOutput struct {
	*os.File
	room int64
}

func (o *fullOutput) WriteAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > o.room {
		return 0, &os.PathError{Op: "write", Path: o.Name(), Err: unix.ENOSPC}
	}
	return o.File.WriteAt(p, off)
}

// OutputErrors fills the output at several places: the writer must report the system's error.
func OutputErrors(t *testing.T, h Harness) {
	t.Helper()
	h.each(t, func(t *testing.T, v Variant) {
		t.Helper()
		disk := &Disk{Size: 2 << 20, Pieces: []Piece{{0, 2 << 20, Random}}}
		for _, room := range []int64{0, 70_000, 1 << 20, 2<<20 - 1} {
			err := writeTo(t, h, v, disk, filepath.Join(t.TempDir(), "full"), engine.Options{Workers: 3},
				func(f *os.File) image.Output { return &fullOutput{f, room} })
			if !errors.Is(err, unix.ENOSPC) {
				t.Errorf("with room for %d bytes the error is %v, want ENOSPC", room, err)
			}
		}
	})
}
