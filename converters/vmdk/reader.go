package vmdk

import (
	"io"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/internal/mapped"
)

// content is what an extent of a disk holds, or the whole disk. Offsets count from its beginning.
type content interface {
	mapped.Map
	image.Metered
	io.Closer
}

// reader is a disk: its content and what is known of it. Of a differencing disk the holes are the parent's.
type reader struct {
	content
	info image.Info
}

var (
	_ image.Reader  = (*reader)(nil)
	_ image.Metered = (*reader)(nil)
)

// Info describes the image.
func (r *reader) Info() image.Info { return r.info }

// ReadAt reads the disk.
func (r *reader) ReadAt(p []byte, off int64) (int, error) {
	return mapped.ReadAt(r.content, r.info.VirtualSize, p, off)
}

// NextExtent returns the run that begins at off.
func (r *reader) NextExtent(off int64) (image.Extent, error) {
	return mapped.NextExtent(r, r.info.VirtualSize, off)
}
