package engine

import (
	"io"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// Forward is an Output over something that takes bytes in their order only: a pipe, an upload. What is left out between two writes is filled with
// zeros. It is used by one goroutine at a time.
type Forward struct {
	w   io.Writer
	pos int64
}

var _ image.Output = (*Forward)(nil)

// NewForward makes an Output of w.
func NewForward(w io.Writer) *Forward { return &Forward{w: w} }

// WriteAt writes p, which must not lie before what was written already.
func (f *Forward) WriteAt(p []byte, off int64) (int, error) {
	if off < f.pos {
		return 0, image.Unsupportedf("content for offset %d comes when the output, which can only be written front to back, is at %d already", off, f.pos)
	}
	if err := f.fill(off); err != nil {
		return 0, err
	}
	n, err := f.w.Write(p)
	f.pos += int64(n)
	return n, err
}

// fill writes zeros up to off.
func (f *Forward) fill(off int64) error {
	if off <= f.pos {
		return nil
	}
	zeros := make([]byte, min(off-f.pos, zeroBlock))
	for f.pos < off {
		n, err := f.w.Write(zeros[:min(off-f.pos, zeroBlock)])
		f.pos += int64(n)
		if err != nil {
			return err
		}
	}
	return nil
}

// ReadAt always fails: nothing can be read back.
func (f *Forward) ReadAt([]byte, int64) (int, error) {
	return 0, fault.New(fault.Internal, "read of an output that can only be written front to back")
}

// Truncate lengthens the output with zeros.
func (f *Forward) Truncate(size int64) error {
	if size < f.pos {
		return fault.New(fault.Internal, "an output of %d bytes that can only be written front to back cannot be cut to %d", f.pos, size)
	}
	return f.fill(size)
}
