package raw

import (
	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// unit is the smallest run of zeros left out of the file: a block of the usual file systems.
const unit = 4096

// writer writes a sparse raw file.
type writer struct {
	out  image.Output
	size int64
}

var (
	_ image.Placer    = (*writer)(nil)
	_ image.Forwarder = (*writer)(nil)
)

// Create begins a raw disk in out. It has no cluster size, variant or compression to choose; asking for one is an error.
func Create(out image.Output, o image.CreateOptions) (image.Writer, error) {
	if err := o.Check("raw", image.Abilities{}); err != nil {
		return nil, err
	}
	_, err := o.RoundedSize()
	return &writer{out, o.VirtualSize}, err
}

// Unit returns the granularity of zeros.
func (w *writer) Unit() int64 { return unit }

// Place returns the offset itself.
func (w *writer) Place(off, n int64) (host, placed int64, err error) { return off, n, nil }

// Finish sets the file's size: what follows the last content is a hole.
func (w *writer) Finish() error {
	return fault.Wrap(w.out.Truncate(w.size), "raw: set the file's size to %d bytes", w.size)
}

// Forward does nothing: content has its order, and Finish only lengthens.
func (w *writer) Forward() error { return nil }
