package vhdx

import (
	"iter"

	"github.com/hyperplane-project/hyperplane/converters/image"
)

// dynamicWriter writes a dynamic disk: blocks follow the BAT in the order in which they come.
type dynamicWriter struct {
	base
	table   []uint32 // for each block of the disk 1 + its number in the file, or 0
	used    int64    // how many blocks the file has
	forward bool     // the table is filled by Plan
}

var (
	_ image.Placer    = (*dynamicWriter)(nil)
	_ image.Planner   = (*dynamicWriter)(nil)
	_ image.Forwarder = (*dynamicWriter)(nil)
)

// Unit returns the block size.
func (w *dynamicWriter) Unit() int64 { return w.disk.block }

// Forward makes Plan write what precedes the blocks.
func (w *dynamicWriter) Forward() error {
	w.forward = true
	return nil
}

// Plan fills and writes the BAT of a file that is written front to back. Otherwise there is nothing to plan: the BAT has its place anyhow.
func (w *dynamicWriter) Plan(runs iter.Seq2[image.Run, error]) error {
	if !w.forward {
		return nil
	}
	for run, err := range runs {
		if err != nil {
			return err
		}
		for i := run.Off / w.disk.block; i*w.disk.block < run.Off+run.Len; i++ {
			w.allocate(i)
		}
	}
	return w.writeFront(w.entry, true)
}

// allocate gives block i of the disk the next place in the file.
func (w *dynamicWriter) allocate(i int64) {
	w.used++
	w.table[i] = uint32(w.used)
}

// Place allocates the block at off.
func (w *dynamicWriter) Place(off, _ int64) (host, placed int64, err error) {
	i := off / w.disk.block
	if w.table[i] == 0 {
		w.allocate(i)
	}
	host, _ = w.entry(i)
	return host, w.disk.block, nil
}

// entry returns the place of block i, if it has one.
func (w *dynamicWriter) entry(i int64) (at int64, ok bool) {
	n := int64(w.table[i])
	return w.dataAt() + (n-1)*w.disk.block, n > 0
}

// Finish sets the file's size and, unless Plan has, writes what precedes the blocks.
func (w *dynamicWriter) Finish() error {
	if err := w.setSize(w.used); err != nil || w.forward {
		return err
	}
	return w.writeFront(w.entry, false)
}
