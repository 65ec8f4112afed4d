package vhdx

import (
	"crypto/sha256"
	"encoding/binary"
	"unicode/utf16"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// Where things are in files written here. Blocks follow the BAT.
const (
	logAt      = 1 * mib
	metadataAt = 2 * mib
	batAt      = 3 * mib
	// batPiece is how many bytes of the BAT are written at once.
	batPiece = 64 << 10

	creator        = "Hyperplane"
	physicalSector = 4096
)

// base is what writers of all kinds have.
type base struct {
	out  image.Output
	disk disk
	id   guid // the DataWriteGuid
}

func (w *base) batSize() int64 { return max(1, (w.disk.entries()*8+mib-1)/mib) * mib }

// dataAt returns the offset of the first block.
func (w *base) dataAt() int64 { return batAt + w.batSize() }

// derive returns a GUID that follows from the DataWriteGuid: the same options give the same file.
func (w *base) derive(what string) guid {
	sum := sha256.Sum256(append(w.id[:], what...))
	g := guid(sum[:16])
	g[7] = g[7]&0x0f | 0x40 // version 4, variant 1: random numbers
	g[8] = g[8]&0x3f | 0x80
	return g
}

// setSize sets the size of a file with n blocks.
func (w *base) setSize(n int64) error {
	size := w.dataAt() + n*w.disk.block
	return fault.Wrap(w.out.Truncate(size), "vhdx: set the file's size to %d bytes", size)
}

// writeFront writes all that precedes the blocks. entry returns the place of a block, if it has one. A file that is written front to back begins with the
// identifier; otherwise the identifier is last: a file that was not finished is no image.
func (w *base) writeFront(entry func(i int64) (int64, bool), forward bool) error {
	if forward {
		if err := w.writeAt(w.identifier(), 0); err != nil {
			return err
		}
	}
	for _, part := range []struct {
		b  []byte
		at int64
	}{
		{w.header(1), header1At},
		{w.header(2), header2At},
		{w.regionTable(), regions1At},
		{w.regionTable(), regions2At},
		{w.metadata(), metadataAt},
	} {
		if err := w.writeAt(part.b, part.at); err != nil {
			return err
		}
	}
	if err := w.writeBAT(entry); err != nil || forward {
		return err
	}
	return w.writeAt(w.identifier(), 0)
}

func (w *base) writeAt(b []byte, off int64) error {
	_, err := w.out.WriteAt(b, off)
	return fault.Wrap(err, "vhdx: write metadata at offset %d", off)
}

func (w *base) identifier() []byte {
	b := []byte(identifier)
	for _, u := range utf16.Encode([]rune(creator)) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return b
}

// header returns a header with an empty log.
func (w *base) header(sequence uint64) []byte {
	le := binary.LittleEndian
	b := make([]byte, headerSize)
	copy(b, headerSignature)
	le.PutUint64(b[8:], sequence)
	fileWrite := w.derive("FileWriteGuid")
	copy(b[16:], fileWrite[:])
	copy(b[32:], w.id[:])
	le.PutUint16(b[66:], 1) // version
	le.PutUint32(b[68:], mib)
	le.PutUint64(b[72:], logAt)
	return seal(b)
}

func (w *base) regionTable() []byte {
	le := binary.LittleEndian
	b := make([]byte, regionTableSize)
	copy(b, regionSignature)
	for i, r := range []region{{id: regionBAT, at: batAt, size: w.batSize()}, {id: regionMetadata, at: metadataAt, size: mib}} {
		e := b[16+i*regionEntry:]
		id := makeGUID(r.id)
		copy(e, id[:])
		le.PutUint64(e[16:], uint64(r.at))
		le.PutUint32(e[24:], uint32(r.size))
		le.PutUint32(e[28:], 1) // required
		le.PutUint32(b[8:], uint32(i+1))
	}
	return seal(b)
}

// metadata returns the table and the items, which follow it.
func (w *base) metadata() []byte {
	le := binary.LittleEndian
	b := make([]byte, metadataTable, metadataTable+64)
	copy(b, metadataSignature)
	var flags uint32
	if w.disk.allocated {
		flags = leaveAllocated
	}
	diskID := w.derive("page 83")
	for i, item := range []struct {
		id    string
		value []byte
		flags uint32
	}{
		{itemParameters, le.AppendUint32(le.AppendUint32(nil, uint32(w.disk.block)), flags), itemRequired},
		{itemSize, le.AppendUint64(nil, uint64(w.disk.size)), itemVirtual | itemRequired},
		{itemLogicalSector, le.AppendUint32(nil, uint32(w.disk.sector)), itemVirtual | itemRequired},
		{itemPhysicalSector, le.AppendUint32(nil, physicalSector), itemVirtual | itemRequired},
		{itemDiskID, diskID[:], itemVirtual | itemRequired},
	} {
		e := b[metadataEntry+i*metadataEntry:]
		id := makeGUID(item.id)
		copy(e, id[:])
		le.PutUint32(e[16:], uint32(len(b)))
		le.PutUint32(e[20:], uint32(len(item.value)))
		le.PutUint32(e[24:], item.flags)
		le.PutUint16(b[10:], uint16(i+1))
		b = append(b, item.value...)
	}
	return b
}

// writeBAT writes the BAT piece by piece. Bitmaps have their entries, which are zero.
func (w *base) writeBAT(entry func(i int64) (int64, bool)) error {
	b := make([]byte, 0, batPiece)
	at := int64(batAt)
	for i := range w.disk.entries() {
		var e uint64
		if i%(w.disk.ratio()+1) != w.disk.ratio() {
			if host, ok := entry(i - i/(w.disk.ratio()+1)); ok {
				e = uint64(host) | uint64(present)
			}
		}
		if b = binary.LittleEndian.AppendUint64(b, e); len(b) < batPiece {
			continue
		}
		if err := w.writeAt(b, at); err != nil {
			return err
		}
		at += int64(len(b))
		b = b[:0]
	}
	return w.writeAt(b, at)
}
