package vmdk

import (
	"encoding/binary"

	"github.com/hyperplane-project/hyperplane/converters/image"
)

// seSparse is the kind of sparse extent in which ESXi keeps the delta disks of snapshots since version 6.5. All numbers are little-endian, of 64 bits; sizes
// and places are in sectors. The constant header is the first sector; the volatile header is wherever that says.
const (
	seSparseMagic   = "\xbe\xba\xfe\xca\x00\x00\x00\x00"
	seVolatileMagic = 0xcafecafe
	seVersion       = 0x2_0000_0001
	seGrain         = 8  // sectors; the only size there is
	seTable         = 64 // sectors; the only size there is
	seEntry         = 8  // bytes

	seAtVersion   = 8
	seAtCapacity  = 16
	seAtGrain     = 24
	seAtTable     = 32
	seAtFlags     = 40
	seAtVolatile  = 80
	seAtDirectory = 128
	seAtDirSize   = 136
	seAtTables    = 144
	seAtTabSize   = 152
	seAtGrains    = 192

	// seAtReplay is in the volatile header: whether the journal must be replayed.
	seAtReplay = 24
)

// seSparse is what the table entries of a seSparse extent mean. The highest four bits are a type.
type seSparse struct {
	file           int64  // size of the file, bytes
	tables, grains uint64 // where they begin, sectors
	tableCount     uint64
}

func openSESparse(f image.File, b []byte, line extentLine, cache *caches) (content, error) {
	if len(b) < sectorSize {
		return nil, image.Truncatedf("vmdk: the file ends inside the seSparse header")
	}
	number := func(at int) uint64 { return binary.LittleEndian.Uint64(b[at:]) }
	if err := checkSESparse(b, number); err != nil {
		return nil, err
	}
	if err := checkJournal(f, number(seAtVolatile)); err != nil {
		return nil, err
	}
	e := seSparse{file: f.Size(), tables: number(seAtTables), grains: number(seAtGrains), tableCount: number(seAtTabSize) / seTable}
	// Then the sums below do not overflow: sectors inside the file are few.
	if last := uint64(f.Size()) / sectorSize; e.tables > last || e.grains > last {
		return nil, image.Truncatedf("vmdk: the seSparse grain tables at sector %d, or the grains at %d, begin past the end of the file at %d",
			e.tables, e.grains, f.Size())
	}
	g := &grains{
		f: f, caches: cache, entries: e, size: int64(number(seAtCapacity)) * sectorSize, grain: seGrain * sectorSize, perTable: seTable * sectorSize / seEntry,
		width: seEntry,
	}
	if err := g.start(); err != nil {
		return nil, err
	}
	if n := number(seAtDirSize); n < uint64(ceil(g.directorySize(), sectorSize)) {
		return nil, image.Corruptf("vmdk: the seSparse grain directory has %d sectors, a disk of %d bytes needs %d",
			n, g.size, ceil(g.directorySize(), sectorSize))
	}
	if at := number(seAtDirectory); !g.addDirectory(at) && g.size > 0 {
		return nil, image.Truncatedf("vmdk: the seSparse grain directory of %d bytes at sector %d reaches past the end of the file at %d",
			g.directorySize(), at, f.Size())
	}
	return g, line.checkCapacity(g.size)
}

// checkSESparse refuses a constant header with numbers no extent can have.
func checkSESparse(b []byte, number func(int) uint64) error {
	switch {
	case string(b[:len(seSparseMagic)]) != seSparseMagic:
		return image.Corruptf("vmdk: the file is no seSparse extent: it begins with % x", b[:len(seSparseMagic)])
	case number(seAtVersion) != seVersion:
		return image.Unsupportedf("vmdk: seSparse extent of version %#x; only %#x is read", number(seAtVersion), uint64(seVersion))
	case number(seAtGrain) != seGrain:
		return image.Unsupportedf("vmdk: seSparse grains of %d sectors; only %d are read", number(seAtGrain), seGrain)
	case number(seAtTable) != seTable:
		return image.Unsupportedf("vmdk: seSparse grain tables of %d sectors; only %d are read", number(seAtTable), seTable)
	case number(seAtFlags) != 0:
		return image.Unsupportedf("vmdk: seSparse flags %#x; none is known", number(seAtFlags))
	case number(seAtCapacity) > maxSectors:
		return image.Limitf("vmdk: capacity of %d sectors at offset %d exceeds %d", number(seAtCapacity), seAtCapacity, uint64(maxSectors))
	}
	return nil
}

// checkJournal refuses an extent whose journal holds changes that the tables do not have yet.
func checkJournal(f image.File, sector uint64) error {
	if sector > uint64(f.Size())/sectorSize {
		return image.Truncatedf("vmdk: the seSparse volatile header at sector %d is past the end of the file at %d", sector, f.Size())
	}
	var b [seAtReplay + 8]byte
	if err := image.ReadFull(f, b[:], int64(sector)*sectorSize, "vmdk: seSparse volatile header"); err != nil {
		return err
	}
	if m := binary.LittleEndian.Uint64(b[:]); m != seVolatileMagic {
		return image.Corruptf("vmdk: the seSparse volatile header at sector %d begins with %#x, not %#x", sector, m, seVolatileMagic)
	}
	if binary.LittleEndian.Uint64(b[seAtReplay:]) != 0 {
		return image.Unsupportedf("vmdk: the seSparse extent's journal was not replayed, so its tables are out of date; " +
			"let ESXi open the disk once, or consolidate the snapshots")
	}
	return nil
}

// table decodes an entry of the grain directory: type 1 and, in the lower half, the index of a grain table.
func (e seSparse) table(entry []byte) (int64, error) {
	n := binary.LittleEndian.Uint64(entry)
	index := n & 0xffff_ffff
	switch {
	case n == 0:
		return 0, nil
	case n>>32 != 0x1000_0000:
		return 0, image.Corruptf("vmdk: the seSparse grain directory has the entry %#x, which is of no known type", n)
	case index >= e.tableCount:
		return 0, image.Corruptf("vmdk: the seSparse grain directory names table %d, there are %d", index, e.tableCount)
	}
	return int64(e.tables+index*seTable) * sectorSize, nil
}

// lookup decodes an entry of a grain table. The number of an allocated grain is split: its lower 12 bits come first.
func (e seSparse) lookup(entry []byte) (image.Kind, int64, error) {
	n := binary.LittleEndian.Uint64(entry)
	switch {
	case n == 0:
		return image.Hole, -1, nil
	case n>>60 == 1, n>>60 == 2: // unmapped by the guest, zeroed
		return image.Zero, -1, nil
	case n>>60 != 3:
		return 0, 0, image.Corruptf("vmdk: a seSparse grain table has the entry %#x, which is of no known type", n)
	}
	index := n>>48&0xfff | n&0xffff_ffff_ffff<<12
	if index > uint64(e.file)/(seGrain*sectorSize) {
		return 0, 0, image.Truncatedf("vmdk: a seSparse grain table names grain %d, past the end of the file at %d", index, e.file)
	}
	return image.Data, int64(e.grains+index*seGrain) * sectorSize, nil
}
