package qcow2

import (
	"encoding/binary"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// l2Table is an L2 table in memory, as it will be in the file. Entries are numbered by the clusters they map.
type l2Table struct {
	w     *writer
	index int64
	b     []byte
}

func (t *l2Table) entry(i int64) uint64 { return binary.BigEndian.Uint64(t.b[i*t.w.entrySize():]) }

func (t *l2Table) set(i int64, entry uint64) {
	binary.BigEndian.PutUint64(t.b[i*t.w.entrySize():], entry)
}

// host returns where the plain cluster i is, or 0.
func (t *l2Table) host(i int64) int64 { return int64(t.entry(i) & offsetMask) }

// mark notes in the bitmaps of extended entries that [off, off+n) of what the table maps is allocated, or else zeros. Other entries have no bitmap.
func (t *l2Table) mark(off, n int64, zero bool) {
	if !t.w.extended {
		return
	}
	size := t.w.subcluster()
	for end := off + n; off < end; {
		i, in := off/t.w.cluster, off%t.w.cluster
		part := min(end-off, t.w.cluster-in)
		low, high := in/size, (in+part+size-1)/size
		mask := uint64(1)<<high - uint64(1)<<low
		at := t.b[i*16+8:]
		bitmap := binary.BigEndian.Uint64(at) &^ (mask | mask<<subclusters)
		if zero {
			mask <<= subclusters
		}
		binary.BigEndian.PutUint64(at, bitmap|mask)
		off += part
	}
}

// setZero makes [off, off+n) of what the table maps read as zeros. Nothing of it may be allocated, except other parts of extended clusters.
func (t *l2Table) setZero(off, n int64) error {
	if t.w.extended {
		t.mark(off, n, true)
		return nil
	}
	for i := off / t.w.cluster; i < (off+n+t.w.cluster-1)/t.w.cluster; i++ {
		if t.entry(i)&^l2Zero != 0 {
			return fault.New(fault.Internal, "qcow2: cluster %d of L2 table %d is to become zeros but has content", i, t.index)
		}
		t.set(i, l2Zero)
	}
	return nil
}
