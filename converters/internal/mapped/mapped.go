// Package mapped reads disks through a format's map of extents: what ReadAt means for holes, for zeros and at the end of the disk is decided here
// once.
package mapped

import (
	"io"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// MaxEntries is how many table entries a map looks at in one call before it returns what it has: a call stays short on any image.
const MaxEntries = 128 << 10

// Map is what a format knows about its disk. It is safe for concurrent use.
type Map interface {
	// Extent returns the run that begins at off, no longer than limit.
	Extent(off, limit int64) (image.Extent, error)
	// ReadCompressed fills p from off; the range is inside one compressed extent.
	ReadCompressed(p []byte, off int64) error
}

// NextExtent returns the run of a disk of size bytes that begins at off.
func NextExtent(m Map, size, off int64) (image.Extent, error) {
	if err := image.CheckOffset(off, size); err != nil {
		return image.Extent{}, err
	}
	return m.Extent(off, size-off)
}

// ReadAt reads a disk of size bytes, with the meaning of io.ReaderAt. Plain content is where the map says; compressed content is the map's to read.
func ReadAt(m Map, size int64, p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, fault.New(fault.OutOfRange, "read at negative offset %d", off)
	}
	if off >= size {
		return 0, io.EOF
	}
	if rest := size - off; int64(len(p)) > rest {
		p, err = p[:rest], io.EOF
	}
	for n < len(p) {
		e, err := m.Extent(off+int64(n), int64(len(p)-n))
		if err != nil {
			return n, err
		}
		if err := read(m, p[n:n+int(e.Len)], e); err != nil {
			return n, err
		}
		n += int(e.Len)
	}
	return n, err
}

func read(m Map, p []byte, e image.Extent) error {
	switch {
	case e.Kind != image.Data:
		clear(p)
		return nil
	case e.Compressed:
		return m.ReadCompressed(p, e.Off)
	default:
		return image.ReadFull(e.In, p, e.Host, "disk content")
	}
}
