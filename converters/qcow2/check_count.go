package qcow2

import (
	"encoding/binary"
	"maps"
	"slices"

	"github.com/hyperplane-project/hyperplane/converters/image"
)

// countTables counts the L2 tables and the clusters they name. A table that several L1 tables name counts as often, and so does what it names.
func (x *examination) countTables() error {
	for _, off := range slices.Sorted(maps.Keys(x.l2)) {
		users := x.l2[off]
		x.use(off, x.file.cluster(), users)
		if off > x.f.Size()-x.file.cluster() {
			x.corrupt(off, "the L2 table at offset %d reaches past the end of the file at %d", off, x.f.Size())
			continue
		}
		size := x.file.l2EntrySize()
		err := x.eachEntry(off, x.file.cluster(), size, func(i int64, b []byte) error {
			x.countEntry(off+i*size, b, users)
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// countEntry counts what the L2 entry at offset at names.
func (x *examination) countEntry(at int64, b []byte, users uint32) {
	entry := binary.BigEndian.Uint64(b)
	if entry&l2Compressed != 0 {
		x.countCompressed(at, entry, users)
		return
	}
	reserved := uint64(l2Reserved)
	if x.file.extended() || x.file.version < 3 {
		reserved |= l2Zero
	}
	if entry&reserved != 0 {
		x.corrupt(at, "the L2 entry %#x has reserved bits set", entry)
	}
	if x.file.extended() {
		bitmap := binary.BigEndian.Uint64(b[8:])
		if uint32(bitmap)&uint32(bitmap>>subclusters) != 0 || uint32(bitmap) != 0 && !x.allocated(entry) {
			x.corrupt(at, "the subcluster bitmap %#x contradicts its L2 entry %#x", bitmap, entry)
		}
	}
	host := int64(entry & offsetMask)
	if host%x.file.cluster() != 0 {
		x.corrupt(at, "the L2 entry %#x points to no cluster", entry)
	}
	switch {
	case x.file.external() || host == 0:
	case host > (x.clusters-1)*x.file.cluster():
		x.corrupt(at, "the L2 entry %#x points past the end of the file at %d", entry, x.f.Size())
	default:
		x.use(host, x.file.cluster(), users)
	}
}

func (x *examination) countCompressed(at int64, entry uint64, users uint32) {
	l := x.file.compressedAt(entry)
	switch {
	case x.file.external():
		x.corrupt(at, "the L2 entry %#x is compressed, which an external data file's content never is", entry)
		return
	case entry&copied != 0:
		x.corrupt(at, "the L2 entry %#x is compressed and marked as not shared", entry)
	}
	if l.host+l.n > x.clusters*x.file.cluster() {
		x.corrupt(at, "the compressed cluster of L2 entry %#x, %d bytes at offset %d, reaches past the end of the file", entry, l.n, l.host)
		return
	}
	x.use(l.host, l.n, users)
}

// countRefcounts counts the refcount blocks.
func (x *examination) countRefcounts() error {
	return x.eachEntry(int64(x.file.refcounts), x.refcountTable(), 8, func(i int64, b []byte) error {
		entry := binary.BigEndian.Uint64(b)
		at := int64(x.file.refcounts) + i*8
		if entry&refcountReserved != 0 {
			x.corrupt(at, "the refcount table's entry %d, %#x, has reserved bits set", i, entry)
		}
		off := int64(entry &^ uint64(refcountReserved))
		if !x.inside(off, x.file.cluster()) {
			x.corrupt(at, "the refcount table's entry %d names a block at offset %#x, which is no cluster of the file", i, uint64(off))
			return nil
		}
		x.use(off, x.file.cluster(), 1)
		return nil
	})
}

// refcountTable returns the size of the refcount table in bytes.
func (x *examination) refcountTable() int64 { return int64(x.file.refClusters) * x.file.cluster() }

// perBlock returns how many refcounts a refcount block has.
func (x *examination) perBlock() int64 { return x.file.cluster() * 8 >> x.file.refcountOrder }

// compare compares the counts of a pass with the refcounts.
func (x *examination) compare() error {
	var block []byte
	for i, want := range x.counts {
		n := x.low + int64(i)
		if block == nil || n%x.perBlock() == 0 {
			if err := x.ctx.Err(); err != nil {
				return err
			}
			var err error
			if block, err = x.refcountBlock(n / x.perBlock()); err != nil {
				return err
			}
		}
		got := refcount(block, n%x.perBlock(), x.file.refcountOrder)
		switch off := n * x.file.cluster(); {
		case got > uint64(want) && want < 1<<16-1:
			x.find(image.Leak, off, "the cluster at offset %d has refcount %d and %d users", off, got, want)
		case got < uint64(want):
			x.find(image.Corruption, off, "the cluster at offset %d has refcount %d and %d users", off, got, want)
		}
	}
	return nil
}

// refcountBlock returns refcount block i, or an empty one.
func (x *examination) refcountBlock(i int64) ([]byte, error) {
	none := []byte{}
	if i >= x.refcountTable()/8 {
		return none, nil
	}
	b, err := x.tables.From(int64(x.file.refcounts), x.refcountTable(), i, 8)
	if err != nil {
		return nil, err
	}
	off := int64(binary.BigEndian.Uint64(b) &^ uint64(refcountReserved))
	if off == 0 || !x.inside(off, x.file.cluster()) || off > x.f.Size()-x.file.cluster() {
		return none, nil
	}
	block := make([]byte, x.file.cluster())
	return block, image.ReadFull(x.f, block, off, "qcow2 refcount block")
}

// refcount returns entry i of a refcount block, whose entries have 1<<order bits; those of less than a byte begin at the lowest bit.
func refcount(block []byte, i int64, order uint32) uint64 {
	if len(block) == 0 {
		return 0
	}
	switch order {
	case 3:
		return uint64(block[i])
	case 4:
		return uint64(binary.BigEndian.Uint16(block[i*2:]))
	case 5:
		return uint64(binary.BigEndian.Uint32(block[i*4:]))
	case 6:
		return binary.BigEndian.Uint64(block[i*8:])
	}
	bits := int64(1) << order
	return uint64(block[i*bits/8]) >> (i * bits % 8) & (1<<bits - 1)
}
