package qcow2

import (
	"encoding/binary"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// space says where in the file tables and data clusters go.
type space interface {
	// data allocates n clusters in one piece, table the cluster of an L2 table.
	data(n int64) (int64, error)
	table() (int64, error)
	// finish writes the refcounts and returns offset and clusters of the refcount table; end is the file's size then.
	finish() (table, clusters int64, err error)
	end() int64
}

// planned is the space of a file whose map was known before: all tables are in front. No cluster is shared, so the refcounts follow from a few offsets.
type planned struct {
	w                     *writer
	refcounts             int64 // offset of the refcount table, which the blocks follow
	refTable, refBlocks   int64 // their sizes in clusters
	tablesNext, tablesEnd int64 // L2 tables not given out
	next, dataEnd         int64 // clusters not given out
}

// newPlanned lays out a file whose first clusters are taken, for up to so many L2 tables and data clusters. Content that turns out to be zeros takes fewer.
func newPlanned(w *writer, taken, tables, data int64) *planned {
	p := &planned{w: w, refcounts: taken * w.cluster}
	p.refTable, p.refBlocks = w.refcountClusters(taken+tables+data, 0)
	p.tablesNext = p.refcounts + (p.refTable+p.refBlocks)*w.cluster
	p.tablesEnd = p.tablesNext + tables*w.cluster
	p.next = p.tablesEnd
	p.dataEnd = p.next + data*w.cluster
	return p
}

func (p *planned) data(n int64) (int64, error) {
	host := p.next
	if p.next += n * p.w.cluster; p.next > p.dataEnd {
		return 0, fault.New(fault.Internal, "qcow2: more content than was planned")
	}
	return host, nil
}

func (p *planned) table() (int64, error) {
	host := p.tablesNext
	if p.tablesNext += p.w.cluster; p.tablesNext > p.tablesEnd {
		return 0, fault.New(fault.Internal, "qcow2: more L2 tables than were planned")
	}
	return host, nil
}

func (p *planned) end() int64 { return p.next }

// finish writes the refcounts of the clusters that were given out.
func (p *planned) finish() (table, clusters int64, err error) {
	return p.refcounts, p.refTable, p.writeRefcounts(p.next)
}

// writeRefcounts writes the refcount table and its blocks: a refcount of 1 for each cluster before end except the L2 tables that were not needed.
func (p *planned) writeRefcounts(end int64) error {
	blocks := make([]int64, p.refBlocks)
	for i := range blocks {
		blocks[i] = p.refcounts + (p.refTable+int64(i))*p.w.cluster
	}
	if err := p.w.writeRefcountTable(blocks, p.refcounts); err != nil {
		return err
	}
	b := make([]byte, p.w.cluster)
	host := int64(0)
	for _, at := range blocks {
		clear(b)
		for n := int64(0); n < p.w.perBlock() && host < end; n++ {
			if host < p.tablesNext || host >= p.tablesEnd {
				binary.BigEndian.PutUint16(b[n*refcountSize:], 1)
			}
			host += p.w.cluster
		}
		if err := p.w.writeAt(b, at); err != nil {
			return err
		}
	}
	return nil
}
