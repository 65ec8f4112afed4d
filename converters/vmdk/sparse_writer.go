package vmdk

import (
	"iter"

	"github.com/hyperplane-project/hyperplane/converters/image"
)

// maxSparse bounds the disks written as one sparse file: 32-bit numbers of sectors do not address more of the file.
const maxSparse = 2 << 40

// sparseWriter writes disks of one sparse file (monolithicSparse).
type sparseWriter struct {
	file    *sparseFile
	forward bool
}

var (
	_ image.Placer    = (*sparseWriter)(nil)
	_ image.Planner   = (*sparseWriter)(nil)
	_ image.Forwarder = (*sparseWriter)(nil)
)

func newSparseWriter(out image.Output, size int64, o StreamOptions) (image.Writer, error) {
	if size > maxSparse {
		return nil, image.Limitf("vmdk: a disk of %d bytes does not fit a %s file, which holds %d at most; choose %s or %s",
			size, monolithicSparse, int64(maxSparse), monolithicFlat, streamOptimized)
	}
	sectors := uint64(size / sectorSize)
	text, err := embed(monolithicSparse, sectors, o)
	if err != nil {
		return nil, err
	}
	f, err := newSparseFile(out, sectors, o.GrainSize, text, newTableCache())
	return &sparseWriter{file: f}, err
}

// Unit returns the grain size.
func (w *sparseWriter) Unit() int64 { return w.file.head.grain() }

// Forward notes that the output is written front to back: the map is needed then.
func (w *sparseWriter) Forward() error {
	w.forward = true
	return nil
}

// Plan writes all that precedes the grains, if the output is written front to back. Otherwise the tables have their places anyway.
func (w *sparseWriter) Plan(runs iter.Seq2[image.Run, error]) error {
	if !w.forward {
		return nil
	}
	return w.file.plan(runs)
}

// Place allocates grains for [off, off+n), as far as one grain table maps it.
func (w *sparseWriter) Place(off, n int64) (host, placed int64, err error) {
	return w.file.place(off, n)
}

// Finish writes the tables and, last, the header.
func (w *sparseWriter) Finish() error {
	if err := w.file.tables.flush(); err != nil {
		return err
	}
	return w.file.finish()
}
