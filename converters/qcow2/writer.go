package qcow2

import (
	"encoding/binary"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

const (
	sectorSize = 512
	// refcountOrder is the width of a refcount, 16 bits: QEMU's default, and all that version 2 has.
	refcountOrder = 4
	refcountSize  = 2
)

// writer is what writing plain and compressed clusters has in common: version 3 images, whose header is written last, so that a file that was not
// finished is no image.
type writer struct {
	out      image.Output
	size     int64 // of the disk, whole sectors
	cluster  int64
	extended bool // L2 entries have a bitmap of subclusters
	zstd     bool // the compression type is zstd
	backing  *image.Backing
	l1At     int64
	l1       []uint64
	l2       l2Cache
	space    space
}

// entrySize is the size of an L2 entry.
func (w *writer) entrySize() int64 {
	if w.extended {
		return 16
	}
	return 8
}

// perTable returns how many clusters an L2 table maps, cover how many bytes of the disk.
func (w *writer) perTable() int64 { return w.cluster / w.entrySize() }
func (w *writer) cover() int64    { return w.perTable() * w.cluster }

// clusters returns how many clusters n bytes take.
func (w *writer) clusters(n int64) int64 { return (n + w.cluster - 1) / w.cluster }

// taken returns how many clusters the header and the L1 table take, which lead the file.
func (w *writer) taken() int64 { return 1 + w.clusters(int64(len(w.l1))*8) }

// subcluster returns the least that can be said to be zeros or not: a cluster, or a part of it.
func (w *writer) subcluster() int64 {
	if w.extended {
		return w.cluster / subclusters
	}
	return w.cluster
}

// PlaceZeros makes [off, off+n) read as zeros, whatever the backing file has.
func (w *writer) PlaceZeros(off, n int64) error {
	for n > 0 {
		table, err := w.l2.get(off / w.cover())
		if err != nil {
			return err
		}
		in := off % w.cover()
		part := min(n, w.cover()-in)
		if err := table.setZero(in, part); err != nil {
			return err
		}
		off, n = off+part, n-part
	}
	return nil
}

// finish writes the tables and, last, the header.
func (w *writer) finish() error {
	if err := w.l2.flush(); err != nil {
		return err
	}
	if err := w.writeAt(encodeTable(w.l1), w.l1At); err != nil {
		return err
	}
	table, size, err := w.space.finish()
	if err != nil {
		return err
	}
	if err := w.truncate(w.space.end()); err != nil {
		return err
	}
	return w.writeAt(w.header(table, size), 0)
}

func (w *writer) truncate(size int64) error {
	return fault.Wrap(w.out.Truncate(size), "qcow2: set the file's size to %d bytes", size)
}

func (w *writer) writeAt(b []byte, off int64) error {
	_, err := w.out.WriteAt(b, off)
	return fault.Wrap(err, "qcow2: write metadata at offset %d", off)
}

func encodeTable(entries []uint64) []byte {
	b := make([]byte, 0, len(entries)*8)
	for _, e := range entries {
		b = binary.BigEndian.AppendUint64(b, e)
	}
	return b
}

func log2(n int64) (bits int) {
	for n > 1 {
		n >>= 1
		bits++
	}
	return bits
}
