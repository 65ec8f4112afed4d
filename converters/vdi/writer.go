package vdi

import (
	"encoding/binary"
	"math"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// Variants that are written.
const (
	variantDynamic = "dynamic"
	variantFixed   = "fixed"
)

const (
	blockSize = 1 << 20
	// mapAlign is where the map goes: the first sector behind the header. Blocks follow at a multiple of their size, so that they can be cloned.
	mapAlign = 512
	// maxWritten is the most that QEMU reads.
	maxWritten = maxBlocks * blockSize
)

// layout is where in the file things go, and what is the same for both variants.
type layout struct {
	out       image.Output
	kind      uint32
	size      int64 // of the disk
	blocks    int64
	dataAt    int64
	id, state [16]byte
}

// Create begins a VDI in out: variant "dynamic" (the default) or "fixed", with blocks of 1 MiB.
func Create(out image.Output, o image.CreateOptions) (image.Writer, error) {
	if err := o.Check("vdi", image.Abilities{Variants: []string{variantDynamic, variantFixed}}); err != nil {
		return nil, err
	}
	size, err := o.RoundedSize()
	if err != nil {
		return nil, err
	}
	if size > maxWritten {
		return nil, image.Limitf("vdi: a disk of %d bytes exceeds %d", size, int64(maxWritten))
	}
	l := layout{out: out, kind: kindDynamic, size: size, blocks: (size + blockSize - 1) / blockSize}
	l.dataAt = (mapAlign + l.blocks*4 + blockSize - 1) / blockSize * blockSize
	if l.dataAt > math.MaxUint32 {
		return nil, fault.New(fault.Internal, "vdi: the blocks begin at offset %d", l.dataAt)
	}
	l.id, l.state = newUUIDs(o.ContentID)
	if o.Variant == variantFixed {
		l.kind = kindFixed
		return &fixedWriter{layout: l}, nil
	}
	return &dynamicWriter{layout: l, places: map[int64]*page{}}, nil
}

// Unit returns the block size.
func (l *layout) Unit() int64 { return blockSize }

// writeHeader writes the header of an image with so many blocks in the file.
func (l *layout) writeHeader(allocated int64) error {
	le := binary.LittleEndian
	b := make([]byte, mapAlign)
	copy(b, "<<< Oracle VM VirtualBox Disk Image >>>\n")
	le.PutUint32(b[atMagic:], magic)
	le.PutUint32(b[atVersion:], version)
	le.PutUint32(b[atHeaderSize:], headerSize)
	le.PutUint32(b[atType:], l.kind)
	le.PutUint32(b[atMap:], mapAlign)
	le.PutUint32(b[atData:], uint32(l.dataAt))
	le.PutUint32(b[atSectorSize:], sectorSize)
	le.PutUint64(b[atSize:], uint64(l.size))
	le.PutUint32(b[atBlockSize:], blockSize)
	le.PutUint32(b[atBlocks:], uint32(l.blocks))
	le.PutUint32(b[atAllocated:], uint32(allocated))
	copy(b[atUUID:], l.id[:])
	copy(b[atModified:], l.state[:])
	le.PutUint32(b[atGeometry+12:], sectorSize) // no geometry: VirtualBox finds one itself
	return l.writeAt(b, 0)
}

func (l *layout) writeAt(b []byte, off int64) error {
	_, err := l.out.WriteAt(b, off)
	return fault.Wrap(err, "vdi: write metadata at offset %d", off)
}

// mapChunk is how many entries of the map are written at once.
const mapChunk = 64 << 10

// writeMap writes the map; entries come from entry, which is called for each block in order.
func (l *layout) writeMap(entry func(i int64) uint32) error {
	b := make([]byte, 0, min(l.blocks, mapChunk)*4)
	for i := int64(0); i < l.blocks; {
		start := i
		for b = b[:0]; i < l.blocks && i-start < mapChunk; i++ {
			b = binary.LittleEndian.AppendUint32(b, entry(i))
		}
		if err := l.writeAt(b, mapAlign+start*4); err != nil {
			return err
		}
	}
	return nil
}

// end sets the file's size for so many blocks.
func (l *layout) end(blocks int64) error {
	size := l.dataAt + blocks*blockSize
	return fault.Wrap(l.out.Truncate(size), "vdi: set the file's size to %d bytes", size)
}
