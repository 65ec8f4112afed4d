package vmdk_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/image/imagetest"
	"github.com/hyperplane-project/hyperplane/converters/vmdk"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// tee is an output in memory.
type tee struct {
	b    []byte
	from int64 // what is written before it is an error, unless it is the header
}

func (o *tee) WriteAt(p []byte, off int64) (int, error) {
	if off > 0 && off < o.from {
		return 0, fmt.Errorf("%d bytes are written at %d again", len(p), off)
	}
	if need := off + int64(len(p)); need > int64(len(o.b)) {
		o.b = append(o.b, make([]byte, need-int64(len(o.b)))...)
	}
	return copy(o.b[off:], p), nil
}

func (o *tee) ReadAt([]byte, int64) (int, error) { return 0, io.EOF }
func (o *tee) Truncate(int64) error              { return nil }

// TestRestore interrupts the writing of a stream after any grain and takes it up: the file is the same, and what was there is not written again.
func TestRestore(t *testing.T) {
	t.Parallel()
	const unit = 4096
	disk := &imagetest.Disk{Size: 4000 * unit, Pieces: []imagetest.Piece{
		{Off: 0, Len: 600 * unit, Content: imagetest.Text},
		{Off: 1500 * unit, Len: 548 * unit, Content: imagetest.Random},
		{Off: 3000 * unit, Len: unit, Content: imagetest.Text},
	}}
	o := image.CreateOptions{VirtualSize: disk.Size, ClusterSize: unit, Level: 1, ContentID: [16]byte{1}}
	for _, planned := range []bool{false, true} {
		begin := func(out image.Output) image.Restorer {
			w, err := vmdk.Create(out, o)
			if err == nil && planned {
				err = w.(image.Planner).Plan(nil)
			}
			if err != nil {
				t.Fatal(err)
			}
			return w.(image.Restorer)
		}
		whole := &tee{}
		w := begin(whole)
		pieces, ends := encodeAll(t, w, disk, unit), []int{}
		for _, p := range pieces {
			if err := w.Append(p.off, bytes.Clone(p.piece)); err != nil {
				t.Fatal(err)
			}
			ends = append(ends, len(whole.b))
		}
		if err := w.Finish(); err != nil {
			t.Fatal(err)
		}
		for _, n := range []int{0, 1, 2, 511, 512, 513, 599, 600, 601, len(pieces) - 1, len(pieces)} {
			half := &tee{b: bytes.Clone(whole.b[:firstGrain])}
			if n > 0 {
				half = &tee{b: bytes.Clone(whole.b[:ends[n-1]]), from: int64(ends[n-1])}
			}
			w := begin(half)
			for i, p := range pieces {
				var err error
				if i < n {
					err = w.Restore(p.off, len(p.piece))
				} else {
					err = w.Append(p.off, bytes.Clone(p.piece))
				}
				if err != nil {
					t.Fatalf("piece %d of %d: %v", i, n, err)
				}
			}
			if err := w.Finish(); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(half.b, whole.b) {
				t.Errorf("taken up after %d grains the file is another", n)
			}
		}
	}
}

// piece is a grain's record.
type piece struct {
	off   int64
	piece []byte
}

func encodeAll(t *testing.T, w image.Appender, disk *imagetest.Disk, unit int64) (pieces []piece) {
	t.Helper()
	enc, err := w.NewEncoder()
	if err != nil {
		t.Fatal(err)
	}
	plain := make([]byte, unit)
	for _, run := range disk.Pieces {
		for off := run.Off; off < run.Off+run.Len; off += unit {
			if _, err := disk.ReadAt(plain, off); err != nil && !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
			b, err := enc.Encode(nil, plain)
			if err != nil {
				t.Fatal(err)
			}
			pieces = append(pieces, piece{off, b})
		}
	}
	return pieces
}

// TestRestoreRefuses gives Restore what cannot have been appended.
func TestRestoreRefuses(t *testing.T) {
	t.Parallel()
	w, err := vmdk.Create(discard{}, image.CreateOptions{VirtualSize: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		off  int64
		size int
	}{{0, 0}, {0, -512}, {0, 700}, {512, 512}, {-grain, 512}, {1 << 40, 512}} {
		if err := w.(image.Restorer).Restore(c.off, c.size); !fault.Is(err, fault.InvalidArgument) {
			t.Errorf("%+v: %v, want InvalidArgument", c, err)
		}
	}
}
