// Package vmdk reads and writes VMware disks: those that are one sparse file, streamOptimized (compressed, forward-only) and monolithicSparse, and those
// of a descriptor and extents in other files, flat and sparse. The delta disks of snapshots, ESXi's COWD and seSparse extents among them, are read.
//
// The format's description is VMware's "Virtual Disk Format 5.0" technical note; where VMware's own tools differ from it the comments say so.
package vmdk

import (
	"encoding/binary"

	"github.com/hyperplane-project/hyperplane/converters/image"
)

const (
	sectorSize = 512
	// magic is "KDMV" at the start of a hosted sparse extent.
	magic = 0x564d444b

	flagNewline    = 1 << 0  // the newline detection bytes are valid
	flagRedundant  = 1 << 1  // the redundant grain directory is valid
	flagZeroGrain  = 1 << 2  // a grain table entry of 1 is a grain of zeros
	flagCompressed = 1 << 16 // grains are compressed
	flagMarkers    = 1 << 17 // grains and metadata are preceded by markers

	compressDeflate = 1
	// gdAtEnd in place of the grain directory's offset says that a footer at the end of the file has it.
	gdAtEnd = 0xffff_ffff_ffff_ffff

	entriesPerTable = 512
)

// header is the sparse extent header; sizes and offsets are in sectors.
type header struct {
	version          uint32
	flags            uint32
	capacity         uint64
	grainSize        uint64
	descriptorOffset uint64
	descriptorSize   uint64
	tableEntries     uint32
	redundantOffset  uint64
	directoryOffset  uint64
	overhead         uint64
	unclean          bool // not closed by the program that wrote it
	newline          [4]byte
	compression      uint16
}

// newlineBytes detect a transfer that changed line ends.
var newlineBytes = [4]byte{'\n', ' ', '\r', '\n'}

// encode returns the header's sector.
func (h *header) encode() []byte {
	b := make([]byte, 0, sectorSize)
	le := binary.LittleEndian
	b = le.AppendUint32(b, magic)
	b = le.AppendUint32(b, h.version)
	b = le.AppendUint32(b, h.flags)
	b = le.AppendUint64(b, h.capacity)
	b = le.AppendUint64(b, h.grainSize)
	b = le.AppendUint64(b, h.descriptorOffset)
	b = le.AppendUint64(b, h.descriptorSize)
	b = le.AppendUint32(b, h.tableEntries)
	b = le.AppendUint64(b, h.redundantOffset)
	b = le.AppendUint64(b, h.directoryOffset)
	b = le.AppendUint64(b, h.overhead)
	b = append(b, 0) // closed cleanly
	b = append(b, h.newline[:]...)
	b = le.AppendUint16(b, h.compression)
	return b[:sectorSize]
}

// parseHeader decodes a header's sector and refuses numbers no image can have.
func parseHeader(b []byte) (*header, error) {
	le := binary.LittleEndian
	if len(b) < 4 || le.Uint32(b) != magic {
		return nil, image.ErrWrongFormat
	}
	if len(b) < sectorSize {
		return nil, image.Truncatedf("vmdk: the file ends inside the header")
	}
	h := &header{
		version: le.Uint32(b[4:]), flags: le.Uint32(b[8:]), capacity: le.Uint64(b[12:]), grainSize: le.Uint64(b[20:]),
		descriptorOffset: le.Uint64(b[28:]), descriptorSize: le.Uint64(b[36:]), tableEntries: le.Uint32(b[44:]),
		redundantOffset: le.Uint64(b[48:]), directoryOffset: le.Uint64(b[56:]), overhead: le.Uint64(b[64:]),
		unclean: b[72] != 0, newline: [4]byte(b[73:77]), compression: le.Uint16(b[77:]),
	}
	return h, h.check()
}

const (
	maxGrainSectors = 4096 // 2 MiB
	minTableEntries = 128
	maxTableEntries = 16384
)

func (h *header) check() error {
	if h.version < 1 || h.version > 3 {
		return image.Unsupportedf("vmdk: sparse extent version %d; only 1 to 3 are read", h.version)
	}
	if h.flags&flagNewline != 0 && h.newline != newlineBytes {
		return image.Corruptf("vmdk: the line end bytes at offset 73 are % x, not % x: the file was transferred in text mode; transfer it again in binary mode",
			h.newline, newlineBytes)
	}
	if h.grainSize == 0 || h.grainSize > maxGrainSectors || h.grainSize&(h.grainSize-1) != 0 {
		return image.Corruptf("vmdk: grain size of %d sectors at offset 20 is not a power of two up to %d", h.grainSize, maxGrainSectors)
	}
	if n := h.tableEntries; n < minTableEntries || n > maxTableEntries || n&(n-1) != 0 {
		return image.Corruptf("vmdk: %d entries in a grain table at offset 44 are not a power of two between %d and %d", n, minTableEntries, maxTableEntries)
	}
	if h.capacity > maxSectors {
		return image.Limitf("vmdk: capacity of %d sectors at offset 12 exceeds %d", h.capacity, uint64(maxSectors))
	}
	if h.flags&flagCompressed == 0 {
		return nil
	}
	if h.compression != compressDeflate {
		return image.Unsupportedf("vmdk: compression algorithm %d; only deflate (1) is read", h.compression)
	}
	if h.flags&flagMarkers == 0 {
		return image.Unsupportedf("vmdk: compressed grains without markers")
	}
	return nil
}

// compressed reports whether grains are deflated.
func (h *header) compressed() bool { return h.flags&flagCompressed != 0 }

// size returns the disk's size in bytes.
func (h *header) size() int64 { return int64(h.capacity) * sectorSize }

// grain returns the size of a grain in bytes.
func (h *header) grain() int64 { return int64(h.grainSize) * sectorSize }

// tableSize returns the size of a grain table in bytes.
func (h *header) tableSize() int64 { return int64(h.tableEntries) * 4 }

// cover returns how many bytes of the disk a grain table maps.
func (h *header) cover() int64 { return int64(h.tableEntries) * h.grain() }

// directoryEntries returns how many grain tables the disk takes.
func (h *header) directoryEntries() int64 { return ceil(h.size(), h.cover()) }
