package vdi

import "github.com/hyperplane-project/hyperplane/converters/image"

// fixedWriter writes images that have room for every block, in the disk's order. The file itself may be sparse.
type fixedWriter struct {
	layout
	written bool // header and map
}

var (
	_ image.Placer    = (*fixedWriter)(nil)
	_ image.Forwarder = (*fixedWriter)(nil)
)

// Forward writes the metadata, which follows from the disk's size.
func (w *fixedWriter) Forward() error {
	w.written = true
	if err := w.writeHeader(w.blocks); err != nil {
		return err
	}
	return w.writeMap(func(i int64) uint32 { return uint32(i) })
}

// Place returns the one place off can have.
func (w *fixedWriter) Place(off, n int64) (host, placed int64, err error) {
	return w.dataAt + off, n, nil
}

// Finish writes the metadata, the header last: a file that was not finished is no image.
func (w *fixedWriter) Finish() error {
	if err := w.end(w.blocks); err != nil || w.written {
		return err
	}
	if err := w.writeMap(func(i int64) uint32 { return uint32(i) }); err != nil {
		return err
	}
	return w.writeHeader(w.blocks)
}
