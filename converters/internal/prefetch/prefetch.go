// Package prefetch reads compressed units that lie close together in a file with few large reads.
package prefetch

import (
	"errors"
	"io"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// maxAhead is the most that is read before it is asked for.
const maxAhead = 1 << 20

// Buffer holds the piece of a file that was read last. It is used by one goroutine at a time; the zero value is ready.
type Buffer struct {
	buf []byte
	off int64 // in the file
	n   int   // bytes of buf that are valid
}

// Reset forgets what was read, so that the buffer can be used for another file.
func (b *Buffer) Reset() { b.n = 0 }

// Bytes returns up to n bytes of r at off; fewer only at the end of the file. The bytes are valid until the next call. ahead is how many bytes from
// off on the caller will probably ask for next: they are read at the same time.
func (b *Buffer) Bytes(r io.ReaderAt, off int64, n int, ahead int64) ([]byte, error) {
	if off >= b.off && off+int64(n) <= b.off+int64(b.n) {
		from := int(off - b.off)
		return b.buf[from : from+n], nil
	}
	want := max(n, int(min(ahead, maxAhead)))
	if cap(b.buf) < want {
		b.buf = make([]byte, want)
	}
	got, err := r.ReadAt(b.buf[:want], off)
	if err != nil && !errors.Is(err, io.EOF) {
		b.n = 0
		return nil, fault.Wrap(err, "read at offset %d", off)
	}
	b.off, b.n = off, got
	return b.buf[:min(n, got)], nil
}
