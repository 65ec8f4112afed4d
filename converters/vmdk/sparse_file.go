package vmdk

import (
	"encoding/binary"
	"math"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// tableSectors is the size of a grain table.
const tableSectors = entriesPerTable * 4 / sectorSize

// sparseFile lays out a hosted sparse extent: header, descriptor if it is a disk of its own, redundant grain directory and tables, primary ones, grains.
// Every grain table has its place from the beginning, as VMware's products want it, so the directory follows from the size. Grains begin at a multiple of
// their size.
type sparseFile struct {
	out     image.Output
	head    header
	text    string // of the embedded descriptor
	tables  *tableCache
	stored  []bool // which grain tables are in the file
	next    int64  // sector of the next grain
	planned bool   // the metadata is in the file
}

func newSparseFile(out image.Output, sectors uint64, grain int64, text string, tables *tableCache) (*sparseFile, error) {
	h := header{
		version: 1, flags: flagNewline | flagRedundant, capacity: sectors, grainSize: uint64(grain / sectorSize), tableEntries: entriesPerTable,
		redundantOffset: 1, newline: newlineBytes,
	}
	if text != "" {
		h.descriptorOffset, h.descriptorSize = 1, descriptorSectors
		h.redundantOffset += descriptorSectors
	}
	count := h.directoryEntries()
	both := uint64(ceil(count*4, sectorSize) + count*tableSectors)
	h.directoryOffset = h.redundantOffset + both
	h.overhead = uint64(ceil(int64(h.directoryOffset+both), int64(h.grainSize))) * h.grainSize
	if h.overhead > math.MaxUint32 {
		return nil, image.Limitf("vmdk: the grain tables of a disk of %d sectors exceed 2 TiB; choose larger grains", sectors)
	}
	return &sparseFile{out: out, head: h, text: text, tables: tables, stored: make([]bool, count), next: int64(h.overhead)}, nil
}

// tableAt returns the sector of grain table i that belongs to the grain directory at the given sector.
func (f *sparseFile) tableAt(directory uint64, i int64) int64 {
	return int64(directory) + ceil(int64(len(f.stored))*4, sectorSize) + i*tableSectors
}

// directories returns the sectors of both grain directories, in the order of the file.
func (f *sparseFile) directories() [2]uint64 {
	return [2]uint64{f.head.redundantOffset, f.head.directoryOffset}
}

// place allocates grains for [off, off+n), as far as one grain table maps it.
func (f *sparseFile) place(off, n int64) (host, placed int64, err error) {
	if f.planned {
		host, err = f.allocate(ceil(n, f.head.grain()))
		return host, n, err
	}
	table, err := f.tables.get(f, off/f.head.cover())
	if err != nil {
		return 0, 0, err
	}
	entries := table[off%f.head.cover()/f.head.grain():]
	if old := entries[0]; old != 0 {
		return int64(old) * sectorSize, f.head.grain(), nil
	}
	entries = entries[:min(ceil(n, f.head.grain()), int64(len(entries)))]
	fresh := int64(1)
	for fresh < int64(len(entries)) && entries[fresh] == 0 {
		fresh++
	}
	if host, err = f.allocate(fresh); err != nil {
		return 0, 0, err
	}
	for i := range fresh {
		entries[i] = uint32((host + i*f.head.grain()) / sectorSize)
	}
	return host, fresh * f.head.grain(), nil
}

// allocate returns the offset of n new grains.
func (f *sparseFile) allocate(n int64) (int64, error) {
	at := f.next
	f.next += n * int64(f.head.grainSize)
	if f.next > math.MaxUint32 {
		return 0, image.Limitf("vmdk: the file would exceed 2 TiB, the most that 32-bit sector numbers can address; choose %s or %s",
			monolithicFlat, streamOptimized)
	}
	return at * sectorSize, nil
}

// finish writes what is not in the file: the directories and, last, the header. The tables were flushed.
func (f *sparseFile) finish() error {
	if !f.planned {
		for _, d := range f.directories() {
			if err := f.writeDirectory(d); err != nil {
				return err
			}
		}
	}
	if err := f.out.Truncate(f.next * sectorSize); err != nil {
		return fault.Wrap(err, "vmdk: set the file's size to %d bytes", f.next*sectorSize)
	}
	if f.planned {
		return nil
	}
	return f.writeHeader()
}

// writeHeader writes the header and the embedded descriptor.
func (f *sparseFile) writeHeader() error { return f.write(append(f.head.encode(), f.text...), 0) }

// writeDirectory writes the grain directory at the given sector.
func (f *sparseFile) writeDirectory(sector uint64) error {
	b := make([]byte, 0, len(f.stored)*4)
	for i := range f.stored {
		b = binary.LittleEndian.AppendUint32(b, uint32(f.tableAt(sector, int64(i))))
	}
	return f.write(b, int64(sector))
}

// writeTable writes grain table i of the directory at the given sector.
func (f *sparseFile) writeTable(t *grainTable, directory uint64, i int64) error {
	b := make([]byte, 0, len(t)*4)
	for _, e := range t {
		b = binary.LittleEndian.AppendUint32(b, e)
	}
	return f.write(b, f.tableAt(directory, i))
}

func (f *sparseFile) write(b []byte, sector int64) error {
	_, err := f.out.WriteAt(b, sector*sectorSize)
	return fault.Wrap(err, "vmdk: write metadata at offset %d", sector*sectorSize)
}
