package vhdx

import (
	"bytes"
	"encoding/binary"
	"slices"

	"github.com/hyperplane-project/hyperplane/converters/image"
)

const (
	metadataSignature = "metadata"
	metadataTable     = 64 << 10
	metadataEntry     = 32
	maxItems          = 2047
	// maxLocator is the size of the largest parent locator that is read; the specification allows 1 MiB.
	maxLocator = 128 << 10

	// Flags of an item.
	itemUser     = 1
	itemVirtual  = 2 // it describes the disk, not the file
	itemRequired = 4

	// Flags of the file parameters.
	leaveAllocated = 1
	hasParent      = 2

	minBlock = 1 << 20
	maxBlock = 256 << 20
	maxDisk  = 64 << 40
)

// disk is what the metadata say.
type disk struct {
	size      int64
	block     int64
	sector    int64 // bytes of a logical sector
	allocated bool  // all blocks are kept in the file: a fixed disk
	diff      bool
	locator   []byte // of the parent, nil if there is none
}

// items are the metadata of a file: for each known item where it is.
type items struct {
	f    image.File
	in   region
	have map[string]run
}

// readMetadata reads the metadata that reading the disk needs.
func readMetadata(f image.File, in region) (*disk, error) {
	b := make([]byte, metadataTable)
	if err := image.ReadFull(f, b, in.at, "vhdx metadata table"); err != nil {
		return nil, err
	}
	if !bytes.HasPrefix(b, []byte(metadataSignature)) {
		return nil, image.Corruptf("vhdx: there is no metadata table at offset %d", in.at)
	}
	m := &items{f, in, map[string]run{}}
	n := binary.LittleEndian.Uint16(b[10:])
	if n > maxItems {
		return nil, image.Corruptf("vhdx: the metadata table has %d entries, more than %d", n, maxItems)
	}
	for i := range int(n) {
		if err := m.add(b[metadataEntry+i*metadataEntry:][:metadataEntry]); err != nil {
			return nil, err
		}
	}
	return m.disk()
}

// knownItems are the items that are understood.
func knownItems() []string {
	return []string{itemParameters, itemSize, itemDiskID, itemLogicalSector, itemPhysicalSector, itemParentLocator}
}

// add takes note of one entry of the table.
func (m *items) add(e []byte) error {
	le := binary.LittleEndian
	id, at, length, flags := guid(e[:16]).String(), int64(le.Uint32(e[16:])), int64(le.Uint32(e[20:])), le.Uint32(e[24:])
	if flags&itemUser != 0 || !slices.Contains(knownItems(), id) {
		if flags&itemRequired != 0 {
			return image.Unsupportedf("vhdx: the image has metadata item %s, which is not known and must be", id)
		}
		return nil
	}
	if length == 0 || at < metadataTable || at > m.in.size-length {
		return image.Corruptf("vhdx: metadata item %s of %d bytes at offset %d is not inside its region of %d bytes", id, length, at, m.in.size)
	}
	if _, twice := m.have[id]; twice {
		return image.Corruptf("vhdx: there are two metadata items %s", id)
	}
	m.have[id] = run{m.in.at + at, m.in.at + at + length}
	return nil
}

// read returns the first n bytes of an item.
func (m *items) read(id string, n int64) ([]byte, error) {
	where, ok := m.have[id]
	if !ok || where.end-where.at < n {
		return nil, image.Corruptf("vhdx: metadata item %s is missing or has less than %d bytes", id, n)
	}
	b := make([]byte, n)
	return b, image.ReadFull(m.f, b, where.at, "vhdx metadata")
}

// disk decodes the items.
func (m *items) disk() (*disk, error) {
	parameters, err := m.read(itemParameters, 8)
	if err != nil {
		return nil, err
	}
	size, err := m.read(itemSize, 8)
	if err != nil {
		return nil, err
	}
	sector, err := m.read(itemLogicalSector, 4)
	if err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	flags := le.Uint32(parameters[4:])
	d := &disk{block: int64(le.Uint32(parameters)), sector: int64(le.Uint32(sector)), diff: flags&hasParent != 0, allocated: flags&leaveAllocated != 0}
	if err := d.check(le.Uint64(size)); err != nil || !d.diff {
		return d, err
	}
	where := m.have[itemParentLocator]
	if where.end-where.at > maxLocator {
		return nil, image.Limitf("vhdx: a parent locator of %d bytes exceeds %d", where.end-where.at, maxLocator)
	}
	d.locator, err = m.read(itemParentLocator, max(locatorHeader, where.end-where.at))
	return d, err
}

// check takes over the size and refuses numbers the format does not have.
func (d *disk) check(size uint64) error {
	switch {
	case d.block < minBlock || d.block > maxBlock || d.block&(d.block-1) != 0:
		return image.Corruptf("vhdx: the block size is %d, no power of two between %d and %d", d.block, minBlock, maxBlock)
	case d.sector != 512 && d.sector != 4096:
		return image.Corruptf("vhdx: the logical sector size is %d, neither 512 nor 4096", d.sector)
	case size > maxDisk:
		return image.Limitf("vhdx: a disk of %d bytes exceeds %d (64 TiB)", size, int64(maxDisk))
	case size%uint64(d.sector) != 0:
		return image.Corruptf("vhdx: the disk of %d bytes does not consist of sectors of %d", size, d.sector)
	}
	d.size = int64(size)
	return nil
}

// blocks returns how many blocks the disk has.
func (d *disk) blocks() int64 { return (d.size + d.block - 1) / d.block }

// ratio returns how many blocks share a sector bitmap: as many as have 2^23 sectors.
func (d *disk) ratio() int64 { return 1 << 23 * d.sector / d.block }

// entries returns how many entries the BAT needs ([MS-VHDX] 2.5). A differencing disk has a bitmap for its last chunk too.
func (d *disk) entries() int64 {
	n := d.blocks()
	switch {
	case n == 0:
		return 0
	case d.diff:
		return (n + d.ratio() - 1) / d.ratio() * (d.ratio() + 1)
	}
	return n + (n-1)/d.ratio()
}

// payload returns the index of block i in the BAT, bitmap that of the bitmap of its chunk.
func (d *disk) payload(i int64) int64 { return i + i/d.ratio() }
func (d *disk) bitmap(i int64) int64  { return i/d.ratio()*(d.ratio()+1) + d.ratio() }
