package vmdk

import (
	"encoding/binary"

	"github.com/hyperplane-project/hyperplane/converters/image"
)

// maxCachedTables bounds the memory for the grain tables of a disk that is written: 8 MiB, which is 128 GiB of the disk with the usual grains.
const maxCachedTables = 4096

// grainTable holds the sectors of grains; 0 is none.
type grainTable [entriesPerTable]uint32

// tableCache holds grain tables that are being filled, of all extents of a disk. When it is full all are written to their files, to be read back if
// content comes late.
type tableCache struct {
	open map[tableKey]*grainTable
}

// tableKey says which table of which file.
type tableKey struct {
	file  *sparseFile
	index int64
}

func newTableCache() *tableCache { return &tableCache{map[tableKey]*grainTable{}} }

// get returns grain table i of f, to be changed before the next call.
func (c *tableCache) get(f *sparseFile, i int64) (*grainTable, error) {
	key := tableKey{f, i}
	if t := c.open[key]; t != nil {
		return t, nil
	}
	if len(c.open) == maxCachedTables {
		if err := c.flush(); err != nil {
			return nil, err
		}
	}
	t := &grainTable{}
	if f.stored[i] {
		b := make([]byte, len(t)*4)
		if err := image.ReadFull(f.out, b, f.tableAt(f.head.directoryOffset, i)*sectorSize, "vmdk: read a grain table back"); err != nil {
			return nil, err
		}
		for j := range t {
			t[j] = binary.LittleEndian.Uint32(b[j*4:])
		}
	}
	c.open[key] = t
	return t, nil
}

// flush writes all tables to their files.
func (c *tableCache) flush() error {
	for key, t := range c.open {
		for _, d := range key.file.directories() {
			if err := key.file.writeTable(t, d, key.index); err != nil {
				return err
			}
		}
		key.file.stored[key.index] = true
	}
	clear(c.open)
	return nil
}
