package vdi

import (
	"iter"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// pageEntries is how many entries of the map a page holds: pages exist where content was placed.
const pageEntries = 4096

// page is a part of the map. An entry is the number of the file's block plus one, or 0.
type page [pageEntries]uint32

// dynamicWriter writes images whose blocks are in the order in which they were placed.
type dynamicWriter struct {
	layout
	next    int64 // number of the file's next block
	places  map[int64]*page
	forward bool
}

var (
	_ image.Placer    = (*dynamicWriter)(nil)
	_ image.Planner   = (*dynamicWriter)(nil)
	_ image.Forwarder = (*dynamicWriter)(nil)
)

// Forward says that the metadata is to be written by Plan.
func (w *dynamicWriter) Forward() error {
	w.forward = true
	return nil
}

// Plan writes the metadata if the output takes bytes in their order only. Otherwise it does nothing: the map has its place in front anyway, and
// blocks that turn out to be zeros are left out.
func (w *dynamicWriter) Plan(runs iter.Seq2[image.Run, error]) error {
	if !w.forward {
		return nil
	}
	var blocks int64
	for run, err := range runs {
		if err != nil {
			return err
		}
		blocks += run.Len / blockSize
	}
	if err := w.writeHeader(blocks); err != nil {
		return err
	}
	return w.planMap(runs)
}

// planMap writes the map of the runs.
func (w *dynamicWriter) planMap(runs iter.Seq2[image.Run, error]) error {
	next, stop := iter.Pull2(runs)
	defer stop()
	var run image.Run
	var failed error
	more := true
	number := uint32(0)
	err := w.writeMap(func(i int64) uint32 {
		for more && failed == nil && i*blockSize >= run.Off+run.Len {
			run, failed, more = next()
		}
		if !more || failed != nil || i*blockSize < run.Off {
			return blockFree
		}
		number++
		return number - 1
	})
	if failed != nil {
		return failed
	}
	return err
}

// Place gives each block that has no place the file's next one.
func (w *dynamicWriter) Place(off, n int64) (host, placed int64, err error) {
	i := off / blockSize
	if i >= w.blocks {
		return 0, 0, fault.New(fault.Internal, "vdi: offset %d is outside a disk of %d bytes", off, w.size)
	}
	if w.forward { // in the order of the plan, which has become the map
		host = w.dataAt + w.next*blockSize
		count := (n + blockSize - 1) / blockSize
		w.next += count
		return host, count * blockSize, nil
	}
	p := w.places[i/pageEntries]
	if p == nil {
		p = &page{}
		w.places[i/pageEntries] = p
	}
	entry := &p[i%pageEntries]
	if *entry == 0 {
		w.next++
		*entry = uint32(w.next)
	}
	return w.dataAt + int64(*entry-1)*blockSize, blockSize, nil
}

// Finish writes the metadata that is missing, the header last: a file that was not finished is no image.
func (w *dynamicWriter) Finish() error {
	if err := w.end(w.next); err != nil || w.forward {
		return err
	}
	if err := w.writeMap(w.entry); err != nil {
		return err
	}
	return w.writeHeader(w.next)
}

// entry returns the map's entry for block i of the disk.
func (w *dynamicWriter) entry(i int64) uint32 {
	p := w.places[i/pageEntries]
	if p == nil || p[i%pageEntries] == 0 {
		return blockFree
	}
	return p[i%pageEntries] - 1
}
