// Package vdi reads and writes VirtualBox's disk images (VDI), version 1.1: dynamic and fixed ones, and ones that hold the differences to a parent,
// which are only read.
//
// The format has no published description. The layout is that of VirtualBox's own files: 64 bytes of text, a magic, a header, a map with one
// entry of 32 bits for each block of the disk, and the blocks, in the order in which they were first written. Numbers are little-endian.
package vdi

import (
	"encoding/binary"
	"errors"
	"io"
	"math"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// Offsets in the file.
const (
	atMagic       = 64
	atVersion     = 68
	atHeaderSize  = 72
	atType        = 76
	atMap         = 340
	atData        = 344
	atSectorSize  = 360
	atSize        = 368
	atBlockSize   = 376
	atBlockExtra  = 380
	atBlocks      = 384
	atAllocated   = 388
	atUUID        = 392
	atModified    = 408
	atParent      = 424
	atParentState = 440
	atGeometry    = 456 // cylinders, heads, sectors, size of a sector

	headerEnd = atHeaderSize + headerSize
)

const (
	magic      = 0xbeda107f
	version    = 1<<16 | 1 // major 1, minor 1
	headerSize = 400
	// minHeaderSize is the header without the second geometry, which nothing here needs.
	minHeaderSize = 384
	sectorSize    = 512
)

// Kinds of image.
const (
	kindDynamic = 1
	kindFixed   = 2
	kindUndo    = 3
	kindDiff    = 4
)

// Entries of the block map that are no number of a block.
const (
	blockFree = 0xffff_ffff // not allocated: the parent's content, or zeros
	blockZero = 0xffff_fffe // discarded: zeros, whatever the parent has
)

const (
	// VirtualBox makes blocks of 1 MiB; other sizes are allowed.
	minBlock = 4 << 10
	maxBlock = 256 << 20
	// maxBlocks bounds the map to 2 GiB, as QEMU does: 512 TiB in blocks of 1 MiB.
	maxBlocks = 1<<29 - 1
)

// header is what reading needs of the header. Offsets and sizes are in bytes.
type header struct {
	kind       uint32
	mapAt      int64
	dataAt     int64
	size       int64 // of the disk
	block      int64
	extra      int64 // bytes in front of each block in the file
	blocks     int64 // entries of the map
	allocated  uint32
	id, parent [16]byte
}

// readHeader reads and checks the header. The text in front of it is anybody's.
func readHeader(f image.File) (*header, error) {
	b := make([]byte, headerEnd)
	n, err := f.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fault.Wrap(err, "vdi: read the header")
	}
	le := binary.LittleEndian
	if n < atVersion || le.Uint32(b[atMagic:]) != magic {
		return nil, image.ErrWrongFormat
	}
	if n < len(b) {
		return nil, image.Truncatedf("vdi: the file ends inside the header, at offset %d", n)
	}
	if v := le.Uint32(b[atVersion:]); v != version {
		return nil, image.Unsupportedf("vdi: version %d.%d; only 1.1 is read", v>>16, v&0xffff)
	}
	if v := le.Uint32(b[atHeaderSize:]); v < minHeaderSize {
		return nil, image.Corruptf("vdi: header size %d at offset %d is below %d", v, atHeaderSize, minHeaderSize)
	}
	size := le.Uint64(b[atSize:])
	if size > math.MaxInt64 {
		return nil, image.Limitf("vdi: virtual size %d at offset %d exceeds %d", size, atSize, int64(math.MaxInt64))
	}
	h := &header{
		kind: le.Uint32(b[atType:]), mapAt: int64(le.Uint32(b[atMap:])), dataAt: int64(le.Uint32(b[atData:])), size: int64(size),
		block: int64(le.Uint32(b[atBlockSize:])), extra: int64(le.Uint32(b[atBlockExtra:])),
		blocks: int64(le.Uint32(b[atBlocks:])), allocated: le.Uint32(b[atAllocated:]),
		id: [16]byte(b[atUUID:]), parent: [16]byte(b[atParent:]),
	}
	if v := le.Uint32(b[atSectorSize:]); v != 0 && v != sectorSize {
		return nil, image.Unsupportedf("vdi: sectors of %d bytes; only %d are read", v, sectorSize)
	}
	if err := h.checkKind(); err != nil {
		return nil, err
	}
	return h, h.checkLayout(f.Size())
}

func (h *header) checkKind() error {
	switch h.kind {
	case kindDynamic, kindFixed, kindDiff:
		return nil
	case kindUndo:
		return image.Unsupportedf("vdi: undo images (type 3) are not read; let VirtualBox merge it first")
	default:
		return image.Corruptf("vdi: image type %d at offset %d is not known", h.kind, atType)
	}
}

// checkLayout refuses numbers that no image can have, and a map that is not inside the file. Data need not be aligned to anything.
func (h *header) checkLayout(file int64) error {
	switch {
	case h.block < minBlock || h.block > maxBlock || h.block&(h.block-1) != 0:
		return image.Unsupportedf("vdi: block size %d at offset %d is not a power of two between %d and %d", h.block, atBlockSize, minBlock, maxBlock)
	case h.extra > maxBlock:
		return image.Limitf("vdi: %d extra bytes for each block, more than %d", h.extra, maxBlock)
	case h.blocks > maxBlocks:
		return image.Limitf("vdi: block map of %d entries at offset %d exceeds %d", h.blocks, atBlocks, maxBlocks)
	case h.size > h.blocks*h.block:
		return image.Corruptf("vdi: a disk of %d bytes does not fit into %d blocks of %d", h.size, h.blocks, h.block)
	case h.mapAt < headerEnd-headerSize+minHeaderSize:
		return image.Corruptf("vdi: the block map at offset %d overlaps the header", h.mapAt)
	case h.mapAt > file-h.mapSize():
		return image.Truncatedf("vdi: block map of %d bytes at offset %d reaches past the end of the file at %d", h.mapSize(), h.mapAt, file)
	case h.dataAt < h.mapAt+h.mapSize():
		return image.Corruptf("vdi: the blocks at offset %d overlap the block map of %d bytes at offset %d", h.dataAt, h.mapSize(), h.mapAt)
	}
	return nil
}

// mapSize returns the size of the block map in bytes.
func (h *header) mapSize() int64 { return h.blocks * 4 }

// used returns how many entries of the map stand for a part of the disk.
func (h *header) used() int64 { return (h.size + h.block - 1) / h.block }

// host returns the offset in the file of the content of the file's block i.
func (h *header) host(i int64) int64 { return h.dataAt + i*(h.extra+h.block) + h.extra }

// variant returns the word for the kind of image.
func (h *header) variant() string {
	switch h.kind {
	case kindFixed:
		return variantFixed
	case kindDiff:
		return "differencing"
	default:
		return variantDynamic
	}
}
