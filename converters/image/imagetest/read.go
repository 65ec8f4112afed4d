package imagetest

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/hyperplane-project/hyperplane/converters/image"
)

// Truncation cuts files at many places. A cut file must be refused, on opening or on reading, with one of the image errors, unless nothing of the disk's content
// is missing.
func Truncation(t *testing.T, h Harness) {
	t.Helper()
	if !h.Strict {
		return
	}
	h.each(t, func(t *testing.T, v Variant) {
		t.Helper()
		if v.Several {
			return
		}
		disk := RandomDisk(3, 1_500_000)
		whole, err := os.ReadFile(Write(t, h, v, disk))
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range cuts(len(whole)) {
			r, err := h.Format.Open(image.NewFile(bytes.NewReader(whole[:n]), int64(n), "cut"), image.OpenOptions{})
			if err == nil {
				err = drain(r, disk.Size)
			}
			if err == nil {
				Same(t, disk, r)
			} else if !Refused(err) {
				t.Errorf("a file cut at %d of %d bytes: %v, which is no image error", n, len(whole), err)
			}
		}
	})
}

// cuts returns interesting lengths below n: around the headers, around sectors and clusters, at the end, and all over.
func cuts(n int) []int {
	at := []int{0, 1, 3, 4, 71, 72, 103, 104, 111, 112, 511, 512, 513, 1023, 1024, 4096, 65535, 65536, 65537, 131072, n - 513, n - 512, n - 511, n - 1}
	r := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		at = append(at, r.IntN(n))
	}
	var good []int
	for _, c := range at {
		if c >= 0 && c < n {
			good = append(good, c)
		}
	}
	return good
}

// ConcurrentReads reads from several goroutines at random places. Run with the race detector.
func ConcurrentReads(t *testing.T, h Harness) {
	t.Helper()
	h.each(t, func(t *testing.T, v Variant) {
		t.Helper()
		disk := RandomDisk(5, 2_000_000)
		r := Open(t, h, Write(t, h, v, disk))
		var g errgroup.Group
		for seed := range uint64(4) {
			g.Go(func() error { return readRandomly(r, disk, seed) })
		}
		if err := g.Wait(); err != nil {
			t.Error(err)
		}
	})
}

func readRandomly(r, want image.Reader, seed uint64) error {
	rnd := rand.New(rand.NewPCG(seed, 9))
	a, b := make([]byte, 150_000), make([]byte, 150_000)
	size := want.Info().VirtualSize
	for range 25 {
		off := rnd.Int64N(size)
		n := min(1+rnd.Int64N(int64(len(a))), size-off)
		if _, err := want.ReadAt(a[:n], off); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if _, err := r.ReadAt(b[:n], off); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if !bytes.Equal(a[:n], b[:n]) {
			return image.Corruptf("content read at offset %d differs", off)
		}
		if _, err := r.NextExtent(off); err != nil {
			return err
		}
	}
	return nil
}

// Extents checks that the map covers the disk without gaps, that what it calls zeros reads as zeros, and that content lies in the file where the map says.
func Extents(t *testing.T, h Harness) {
	t.Helper()
	h.each(t, func(t *testing.T, v Variant) {
		t.Helper()
		r := Open(t, h, Write(t, h, v, RandomDisk(11, 2_654_321)))
		size := r.Info().VirtualSize
		for off := int64(0); off < size; {
			e, err := r.NextExtent(off)
			if err != nil {
				t.Fatal(err)
			}
			if e.Off != off || e.Len < 1 || e.Off+e.Len > size {
				t.Fatalf("extent at %d is [%d,+%d) of a disk of %d bytes", off, e.Off, e.Len, size)
			}
			checkExtent(t, r, e)
			off += e.Len
		}
		for _, off := range []int64{-1, size, size + 1} {
			if _, err := r.NextExtent(off); err == nil {
				t.Errorf("extent at %d of a disk of %d bytes is no error", off, size)
			}
		}
	})
}

func checkExtent(t *testing.T, r image.Reader, e image.Extent) {
	t.Helper()
	p := make([]byte, e.Len)
	read(t, r, p, e.Off)
	switch {
	case e.Kind != image.Data:
		if !bytes.Equal(p, make([]byte, e.Len)) {
			t.Errorf("extent [%d,+%d) is no data and holds something", e.Off, e.Len)
		}
	case e.Host >= 0 && !e.Compressed:
		file := make([]byte, e.Len)
		if read(t, e.In, file, e.Host); !bytes.Equal(p, file) {
			t.Errorf("extent [%d,+%d) is not at offset %d of the file", e.Off, e.Len, e.Host)
		}
	}
}

// ReadAtContract checks the corners of io.ReaderAt.
func ReadAtContract(t *testing.T, h Harness) {
	t.Helper()
	h.each(t, func(t *testing.T, v Variant) {
		t.Helper()
		disk := &Disk{Size: 100_352, Pieces: []Piece{{0, 100_352, Text}}}
		r := Open(t, h, Write(t, h, v, disk))
		p := make([]byte, 1000)
		if n, err := r.ReadAt(p, disk.Size-10); n != 10 || !errors.Is(err, io.EOF) {
			t.Errorf("reading across the end returns %d, %v; want 10, EOF", n, err)
		}
		if n, err := r.ReadAt(p, disk.Size); n != 0 || !errors.Is(err, io.EOF) {
			t.Errorf("reading at the end returns %d, %v; want 0, EOF", n, err)
		}
		if n, err := r.ReadAt(p[:10], disk.Size-10); n != 10 || err != nil && !errors.Is(err, io.EOF) {
			t.Errorf("reading up to the end returns %d, %v; want 10", n, err)
		}
		if _, err := r.ReadAt(p, -1); err == nil {
			t.Errorf("reading at a negative offset is no error")
		}
	})
}

// meteredFile counts what is read.
type meteredFile struct {
	image.File
	read int64
}

func (m *meteredFile) ReadAt(p []byte, off int64) (int, error) {
	m.read += int64(len(p))
	return m.File.ReadAt(p, off)
}

// BoundedOpen checks that opening a large disk reads little.
func BoundedOpen(t *testing.T, h Harness) {
	t.Helper()
	h.each(t, func(t *testing.T, v Variant) {
		t.Helper()
		size := h.huge(v)
		disk := &Disk{Size: size, Pieces: []Piece{{size / 2, 1 << 20, Random}}}
		m := &meteredFile{File: openFile(t, Write(t, h, v, disk))}
		r, err := h.Format.Open(m, image.OpenOptions{InfoOnly: true})
		if err != nil {
			t.Fatal(err)
		}
		if m.read > image.MaxOpenBytes {
			t.Errorf("opening reads %d bytes, more than %d", m.read, image.MaxOpenBytes)
		}
		closeFile(t, r)
	})
}
