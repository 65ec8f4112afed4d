package vmdk

import (
	"github.com/hyperplane-project/hyperplane/converters/image"
)

// splitSpan is the room in the content for one extent's file: 2047 MiB of grains and their tables are less.
const splitSpan = 4 << 30

// splitWriter writes disks of several sparse files (twoGbMaxExtentSparse).
type splitWriter struct {
	*siblings
	size    int64
	tables  *tableCache
	extents []*sparseFile
}

var _ image.Redirector = (*splitWriter)(nil)

func newSplitWriter(out image.Output, size int64, o StreamOptions, create func(string) (image.Output, error)) (image.Writer, error) {
	s, err := newSiblings(out, twoGbMaxExtentSparse, o, create)
	if err != nil {
		return nil, err
	}
	s.content.span = splitSpan
	w := &splitWriter{siblings: s, size: size, tables: newTableCache()}
	return w, s.split(uint64(size/sectorSize), kindSparse, "s", func(out image.Output, sectors uint64) error {
		f, err := newSparseFile(out, sectors, o.GrainSize, "", w.tables)
		w.extents = append(w.extents, f)
		return err
	})
}

// Unit returns the grain size.
func (w *splitWriter) Unit() int64 { return w.opts.GrainSize }

// Place allocates grains for [off, off+n), as far as a grain table of one extent maps it.
func (w *splitWriter) Place(off, n int64) (host, placed int64, err error) {
	const extent = splitSectors * sectorSize
	i := off / extent
	host, placed, err = w.extents[i].place(off%extent, min(n, extent-off%extent))
	return i*splitSpan + host, placed, err
}

// Finish writes the tables and headers of the extents and, last, the descriptor.
func (w *splitWriter) Finish() error {
	if err := w.tables.flush(); err != nil {
		return err
	}
	for _, f := range w.extents {
		if err := f.finish(); err != nil {
			return err
		}
	}
	return w.finish(w.size)
}
