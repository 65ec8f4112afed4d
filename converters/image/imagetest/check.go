package imagetest

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/hyperplane-project/hyperplane/converters/image"
)

// Same fails the test unless got holds what want holds. Where both have holes nothing is read. got may be longer by less than a sector of zeros.
func Same(t *testing.T, want, got image.Reader) {
	t.Helper()
	size, gotSize := want.Info().VirtualSize, got.Info().VirtualSize
	if gotSize < size || gotSize >= size+512 {
		t.Fatalf("virtual size is %d, want %d", gotSize, size)
	}
	const step = 1 << 20
	a, b := make([]byte, step), make([]byte, step)
	for off := int64(0); off < gotSize; {
		n := gotSize - off
		if off < size {
			n = min(n, holeAt(t, want, off))
		}
		if n = min(n, holeAt(t, got, off)); n > 0 {
			off += n
			continue
		}
		n = min(step, gotSize-off)
		clear(a)
		read(t, want, a[:n], off)
		if k := read(t, got, b[:n], off); int64(k) != n {
			t.Fatalf("read %d of %d bytes at %d", k, n, off)
		}
		if !bytes.Equal(a[:n], b[:n]) {
			t.Fatalf("content differs at offset %d", off+int64(firstDifference(a[:n], b[:n])))
		}
		off += n
	}
}

// holeAt returns how many bytes from off on are known to be zeros.
func holeAt(t *testing.T, r image.Reader, off int64) int64 {
	t.Helper()
	e, err := r.NextExtent(off)
	if err != nil {
		t.Fatalf("extent at %d: %v", off, err)
	}
	if e.Kind == image.Data {
		return 0
	}
	return e.Len
}

func read(t *testing.T, r io.ReaderAt, p []byte, off int64) int {
	t.Helper()
	n, err := r.ReadAt(p, off)
	if err != nil && !errors.Is(err, io.EOF) {
		t.Fatalf("read %d bytes at %d: %v", len(p), off, err)
	}
	return n
}

func firstDifference(a, b []byte) int {
	for i := range a {
		if a[i] != b[i] {
			return i
		}
	}
	return len(a)
}

// Refused reports whether err is one of the errors with which a damaged or hostile image may be refused.
func Refused(err error) bool {
	for _, kind := range []error{
		image.ErrCorrupt, image.ErrTruncated, image.ErrUnsupported, image.ErrEncrypted, image.ErrReference, image.ErrLimit, image.ErrWrongFormat,
	} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}

func isEOF(err error) bool { return errors.Is(err, io.EOF) }

// maxExtents is how many extents drain looks at: hostile images have disks of any size.
const maxExtents = 500

// drain reads the whole disk, at most limit bytes of content, and returns the first error.
func drain(r image.Reader, limit int64) error {
	buf := make([]byte, 256<<10)
	size := r.Info().VirtualSize
	for off, n := int64(0), 0; off < size && limit > 0 && n < maxExtents; n++ {
		e, err := r.NextExtent(off)
		if err != nil {
			return err
		}
		if e.Kind != image.Data {
			off += e.Len
			continue
		}
		p := buf[:min(int64(len(buf)), e.Len)]
		if n, err := r.ReadAt(p, off); n < len(p) {
			return err
		}
		off += int64(len(p))
		limit -= int64(len(p))
	}
	return nil
}
