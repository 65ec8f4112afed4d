package qcow2

import (
	"encoding/binary"

	"github.com/hyperplane-project/hyperplane/converters/image"
)

// Bits of table entries that must be zero (docs/interop/qcow2.txt).
const (
	l1Reserved       = 0x7f00_0000_0000_01ff
	l2Reserved       = 0x3f00_0000_0000_01fe
	refcountReserved = 0x1ff
)

// collect finds all areas of metadata, and all L2 tables.
func (x *examination) collect() error {
	x.l2 = map[int64]uint32{}
	h := x.file
	x.areas = append(x.areas, area{0, h.cluster()}, area{int64(h.refcounts), int64(h.refClusters) * h.cluster()})
	if err := x.collectL1(int64(h.l1Offset), int64(h.l1Entries), "L1 table"); err != nil {
		return err
	}
	if err := x.collectSnapshots(); err != nil {
		return err
	}
	return x.collectBitmaps()
}

func (x *examination) collectSnapshots() error {
	var end int64
	for s, err := range x.file.readSnapshots(x.f, maxSnapshotTable) {
		if err != nil {
			return err
		}
		end = s.end
		if s.l1Entries > maxL1Bytes/8 || s.l1Offset > uint64(x.f.Size()) {
			x.corrupt(int64(x.file.snapshotsAt), "snapshot %q has an L1 table of %d entries at offset %d", s.Name, s.l1Entries, s.l1Offset)
			continue
		}
		if err := x.collectL1(int64(s.l1Offset), int64(s.l1Entries), "L1 table of a snapshot"); err != nil {
			return err
		}
	}
	if end > 0 {
		x.areas = append(x.areas, area{int64(x.file.snapshotsAt), end})
	}
	return nil
}

// collectL1 takes note of an L1 table and of the L2 tables it names.
func (x *examination) collectL1(off, n int64, what string) error {
	if n == 0 {
		return nil
	}
	if x.entries += n; x.entries > maxCheckedL1 {
		return image.Limitf("qcow2: the L1 tables of the snapshots have more than %d entries", maxCheckedL1)
	}
	if off%x.file.cluster() != 0 || off > x.f.Size()-n*8 {
		x.corrupt(off, "the %s of %d entries is not at a cluster, or reaches past the end of the file", what, n)
		return nil
	}
	x.areas = append(x.areas, area{off, n * 8})
	return x.eachEntry(off, n*8, 8, func(i int64, b []byte) error {
		entry := binary.BigEndian.Uint64(b)
		if entry&l1Reserved != 0 {
			x.corrupt(off+i*8, "entry %d of the %s, %#x, has reserved bits set", i, what, entry)
		}
		table := int64(entry & offsetMask)
		switch {
		case table == 0:
		case !x.inside(table, x.file.cluster()):
			x.corrupt(off+i*8, "entry %d of the %s names an L2 table at offset %#x, which is no cluster of the file", i, what, table)
		case x.l2[table] == 0 && len(x.l2) == maxCheckedTables:
			return image.Limitf("qcow2: more than %d L2 tables are not examined", maxCheckedTables)
		default:
			x.l2[table]++
		}
		return nil
	})
}

// eachEntry calls fn for the entries of a table that are not all zeros.
func (x *examination) eachEntry(off, size, entry int64, fn func(i int64, b []byte) error) error {
	for i := int64(0); i < size/entry; {
		b, err := x.tables.From(off, size, i, entry)
		if err != nil {
			return err
		}
		if err := x.ctx.Err(); err != nil {
			return err
		}
		for ; int64(len(b)) >= entry; b, i = b[entry:], i+1 {
			if isZero(b[:entry]) {
				continue
			}
			if err := fn(i, b[:entry]); err != nil {
				return err
			}
		}
	}
	return nil
}

// isZero reports whether an entry of 8 or 16 bytes is all zeros.
func isZero(b []byte) bool {
	v := binary.BigEndian.Uint64(b)
	if len(b) > 8 {
		v |= binary.BigEndian.Uint64(b[8:])
	}
	return v == 0
}
