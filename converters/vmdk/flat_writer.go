package vmdk

import (
	"math"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// flatUnit is the smallest run of zeros left out of a flat file: a block of the usual file systems.
const flatUnit = 4096

// flatWriter writes disks whose extents hold the content as it is, in sparse files.
type flatWriter struct {
	*siblings
	size int64
}

var _ image.Redirector = (*flatWriter)(nil)

func newFlatWriter(out image.Output, size int64, variant string, o StreamOptions, create func(string) (image.Output, error)) (image.Writer, error) {
	s, err := newSiblings(out, variant, o, create)
	if err != nil {
		return nil, err
	}
	w := &flatWriter{s, size}
	sectors := uint64(size / sectorSize)
	if variant == monolithicFlat {
		s.content.span = math.MaxInt64
		_, err = s.add(extentLine{sectors: sectors, kind: kindFlat}, "-flat")
		return w, err
	}
	s.content.span = splitSectors * sectorSize
	return w, s.split(sectors, kindFlat, "f", func(image.Output, uint64) error { return nil })
}

// Unit returns the granularity of zeros.
func (w *flatWriter) Unit() int64 { return flatUnit }

// Place returns the offset itself, as far as its file goes.
func (w *flatWriter) Place(off, n int64) (host, placed int64, err error) {
	return off, min(n, w.content.span-off%w.content.span), nil
}

// Finish sets the files' sizes, for what follows the last content is a hole, and writes the descriptor.
func (w *flatWriter) Finish() error {
	for i, line := range w.lines {
		if err := w.content.files[i].Truncate(line.size()); err != nil {
			return fault.Wrap(err, "vmdk: set the size of %q to %d bytes", line.name, line.size())
		}
	}
	return w.finish(w.size)
}
