// Package overlay puts an image of differences over the image it is based on. What that means for sizes, holes and zeros is decided here once,
// for backing files, parents and deltas of all formats.
package overlay

import (
	"errors"
	"io"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// reader shows the child's content, and the parent's where the child has a hole. Behind the parent's end holes are zeros.
type reader struct {
	child, parent image.Reader
	size          int64
	parentSize    int64
}

var _ image.Metered = (*reader)(nil)

// New lays child over parent and owns both.
func New(child, parent image.Reader) image.Reader {
	return &reader{child: child, parent: parent, size: child.Info().VirtualSize, parentSize: parent.Info().VirtualSize}
}

// Info describes the child; the size of the parent's file is not counted.
func (r *reader) Info() image.Info { return r.child.Info() }

// Close closes both.
func (r *reader) Close() error { return errors.Join(r.child.Close(), r.parent.Close()) }

// BytesRead counts what both have read.
func (r *reader) BytesRead() int64 { return image.BytesRead(r.child) + image.BytesRead(r.parent) }

// NextExtent returns the child's run, or the parent's in the child's holes.
func (r *reader) NextExtent(off int64) (image.Extent, error) {
	if err := image.CheckOffset(off, r.size); err != nil {
		return image.Extent{}, err
	}
	return r.extent(off)
}

func (r *reader) extent(off int64) (image.Extent, error) {
	e, err := r.child.NextExtent(off)
	if err != nil || e.Kind != image.Hole {
		return e, err
	}
	if off >= r.parentSize {
		return e, nil
	}
	p, err := r.parent.NextExtent(off)
	if err != nil {
		return image.Extent{}, err
	}
	p.Len = min(p.Len, e.Len)
	return p, nil
}

// ReadAt reads the disk.
func (r *reader) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, fault.New(fault.OutOfRange, "read at negative offset %d", off)
	}
	if off >= r.size {
		return 0, io.EOF
	}
	if rest := r.size - off; int64(len(p)) > rest {
		p, err = p[:rest], io.EOF
	}
	for n < len(p) {
		k, err := r.readPiece(p[n:], off+int64(n))
		n += k
		if err != nil {
			return n, err
		}
	}
	return n, err
}

// readPiece reads from the one image that has the content of off, as far as it has it.
func (r *reader) readPiece(p []byte, off int64) (int, error) {
	e, err := r.child.NextExtent(off)
	if err != nil {
		return 0, err
	}
	p = p[:min(int64(len(p)), e.Len)]
	from := r.child
	if e.Kind == image.Hole {
		if off >= r.parentSize {
			clear(p)
			return len(p), nil
		}
		from, p = r.parent, p[:min(int64(len(p)), r.parentSize-off)]
	}
	if err := image.ReadFull(from, p, off, "disk content"); err != nil {
		return 0, err
	}
	return len(p), nil
}
