package qcow2

import "encoding/binary"

// allocator gives out clusters of the file, in ascending order, and keeps their refcounts. A refcount block counts the clusters of one part of the file.
// Parts that allocation has passed are final: settle writes their blocks into the next clusters, so few parts are in memory.
type allocator struct {
	w      *writer
	next   int64              // offset of the next free cluster
	counts map[int64][]uint16 // refcounts of the parts that are not written, by number of the part
	blocks []int64            // offsets of the refcount blocks written, by number of the part
}

// newAllocator makes an allocator of a file whose first clusters are taken.
func newAllocator(w *writer, taken int64) *allocator {
	a := &allocator{w: w, counts: map[int64][]uint16{}}
	a.take(taken)
	return a
}

// perBlock is how many clusters one refcount block counts.
func (w *writer) perBlock() int64 { return w.cluster / refcountSize }

// take allocates n clusters in one piece.
func (a *allocator) take(n int64) int64 {
	host := a.next
	for range n {
		a.share(a.next)
		a.next += a.w.cluster
	}
	return host
}

// share adds a user to the cluster at host, which must be the one allocated last, or a new one.
func (a *allocator) share(host int64) {
	i := host / a.w.cluster
	part := i / a.w.perBlock()
	if a.counts[part] == nil {
		a.counts[part] = make([]uint16, a.w.perBlock())
	}
	a.counts[part][i%a.w.perBlock()]++
}

// settle writes the refcount blocks of the parts that are complete. It allocates a cluster for each, so what follows need not adjoin what was allocated
// before.
func (a *allocator) settle() error {
	for int64(len(a.blocks)) < a.next/a.w.cluster/a.w.perBlock() {
		if err := a.writeBlock(a.take(1)); err != nil {
			return err
		}
	}
	return nil
}

// writeBlock writes the refcounts of the first part that is not written.
func (a *allocator) writeBlock(at int64) error {
	part := int64(len(a.blocks))
	b := make([]byte, 0, a.w.cluster)
	for _, n := range a.counts[part] {
		b = binary.BigEndian.AppendUint16(b, n)
	}
	delete(a.counts, part)
	a.blocks = append(a.blocks, at)
	return a.w.writeAt(b, at)
}

func (a *allocator) data(n int64) (int64, error) {
	err := a.settle()
	return a.take(n), err
}

func (a *allocator) table() (int64, error) { return a.data(1) }

func (a *allocator) end() int64 { return a.next }

// finish writes the refcounts that are left and the refcount table.
func (a *allocator) finish() (table, clusters int64, err error) {
	if err := a.settle(); err != nil {
		return 0, 0, err
	}
	clusters, blocks := a.w.refcountClusters(a.next/a.w.cluster, int64(len(a.blocks)))
	table = a.take(clusters)
	at := a.take(blocks)
	for i := range blocks {
		if err := a.writeBlock(at + i*a.w.cluster); err != nil {
			return 0, 0, err
		}
	}
	return table, clusters, a.w.writeRefcountTable(a.blocks, table)
}

// refcountClusters returns how many clusters the refcount table and the missing refcount blocks take in a file that has the given number of clusters
// without them and written blocks already.
func (w *writer) refcountClusters(taken, written int64) (table, blocks int64) {
	for {
		all := (taken + table + blocks + w.perBlock() - 1) / w.perBlock()
		t, b := w.clusters(all*8), all-written
		if t == table && b == blocks {
			return table, blocks
		}
		table, blocks = max(t, table), max(b, blocks)
	}
}

func (w *writer) writeRefcountTable(blocks []int64, at int64) error {
	b := make([]byte, 0, (int64(len(blocks))*8+w.cluster-1)/w.cluster*w.cluster)
	for _, off := range blocks {
		b = binary.BigEndian.AppendUint64(b, uint64(off))
	}
	return w.writeAt(b[:cap(b)], at)
}
