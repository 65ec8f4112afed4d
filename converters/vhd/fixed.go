package vhd

import (
	"fmt"
	"io"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/raw"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// fixedReader reads a fixed disk: a raw disk that ends before the footer.
type fixedReader struct {
	base
	plain image.Reader // the whole file; its holes are the disk's
}

var (
	_ image.Checker = (*fixedReader)(nil)
	_ image.Metered = (*fixedReader)(nil)
)

func openFixed(b base) (image.Reader, error) {
	if b.info.VirtualSize > b.end {
		b.warn(fmt.Sprintf("vhd: the footer states %d bytes, but only %d are in front of it; the disk ends there", b.info.VirtualSize, b.end))
		b.info.VirtualSize = b.end
	}
	plain, err := raw.Open(b.f, image.OpenOptions{})
	if err != nil {
		return nil, err
	}
	return &fixedReader{b, plain}, nil
}

// ReadAt reads the disk.
func (r *fixedReader) ReadAt(p []byte, off int64) (n int, err error) {
	size := r.info.VirtualSize
	if off < 0 {
		return 0, fault.New(fault.OutOfRange, "read at negative offset %d", off)
	}
	if off >= size {
		return 0, io.EOF
	}
	var end error
	if rest := size - off; int64(len(p)) > rest {
		p, end = p[:rest], io.EOF
	}
	if err := image.ReadFull(r.f, p, off, "disk content"); err != nil {
		return 0, err
	}
	return len(p), end
}

// NextExtent returns the run that begins at off.
func (r *fixedReader) NextExtent(off int64) (image.Extent, error) {
	if err := image.CheckOffset(off, r.info.VirtualSize); err != nil {
		return image.Extent{}, err
	}
	e, err := r.plain.NextExtent(off)
	e.Len = min(e.Len, r.info.VirtualSize-off)
	return e, err
}
