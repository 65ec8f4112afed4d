package vmdk

import (
	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/raw"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// flat is an extent whose file holds the content as it is, from some offset on.
type flat struct {
	f    image.File
	raw  image.Reader // f
	from int64
}

var _ content = (*flat)(nil)

func openFlat(f image.File, line extentLine) (content, error) {
	if end := int64(line.offset+line.sectors) * sectorSize; end > f.Size() {
		return nil, image.Truncatedf("vmdk: the extent of %d sectors from sector %d on needs a file of %d bytes, it has %d",
			line.sectors, line.offset, end, f.Size())
	}
	r, err := raw.Open(f, image.OpenOptions{})
	if err != nil {
		return nil, err
	}
	return &flat{f, r, int64(line.offset) * sectorSize}, nil
}

// Extent returns the run that begins at off, no longer than limit. Holes of the file are zeros: a parent does not show through them.
func (c *flat) Extent(off, limit int64) (image.Extent, error) {
	e, err := c.raw.NextExtent(c.from + off)
	if err != nil {
		return image.Extent{}, err
	}
	e.Off, e.Len = off, min(e.Len, limit)
	if e.Kind == image.Hole {
		e.Kind = image.Zero
	}
	return e, nil
}

// ReadCompressed is never called: nothing is compressed.
func (c *flat) ReadCompressed([]byte, int64) error { return notCompressed() }

// BytesRead returns how much of the file was read.
func (c *flat) BytesRead() int64 { return image.BytesRead(c.f) }

// Close closes the file.
func (c *flat) Close() error { return c.f.Close() }

// zeros is an extent without a file.
type zeros struct{}

var _ content = zeros{}

// Extent returns zeros.
func (zeros) Extent(off, limit int64) (image.Extent, error) {
	return image.Extent{Off: off, Len: limit, Kind: image.Zero, Host: -1}, nil
}

// ReadCompressed is never called: nothing is compressed.
func (zeros) ReadCompressed([]byte, int64) error { return notCompressed() }

// BytesRead returns 0.
func (zeros) BytesRead() int64 { return 0 }

// Close does nothing.
func (zeros) Close() error { return nil }

func notCompressed() error {
	return fault.New(fault.Internal, "vmdk: compressed content was asked for where there is none")
}
