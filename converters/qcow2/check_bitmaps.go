package qcow2

import (
	"encoding/binary"

	"github.com/hyperplane-project/hyperplane/converters/image"
)

const (
	// maxBitmaps and maxBitmapDirectory are QEMU's limits.
	maxBitmaps         = 65535
	maxBitmapDirectory = maxBitmaps * 1024
	bitmapEntry        = 24
)

// collectBitmaps takes note of the dirty bitmaps. If the autoclear bit is not set they are out of date, and what they use is a leak.
func (x *examination) collectBitmaps() error {
	b := x.ext.bitmaps
	if b == nil || x.file.autoclear&autoclearBitmaps == 0 {
		return nil
	}
	size := int64(min(b.size, maxBitmapDirectory))
	if b.count > maxBitmaps || b.size > maxBitmapDirectory || b.off > uint64(x.f.Size()) || !x.inside(int64(b.off), size) || int64(b.off) > x.f.Size()-size {
		x.corrupt(int64(b.off), "the directory of %d bitmaps, %d bytes, is not in the file", b.count, b.size)
		return nil
	}
	directory := make([]byte, size)
	if err := image.ReadFull(x.f, directory, int64(b.off), "qcow2 bitmap directory"); err != nil {
		return err
	}
	x.areas = append(x.areas, area{int64(b.off), size})
	for range b.count {
		n := x.bitmap(directory)
		if n < 0 {
			x.corrupt(int64(b.off), "an entry of the bitmap directory reaches past its end")
			return nil
		}
		if n == 0 {
			continue
		}
		if err := x.collectBitmap(directory, int64(b.off)); err != nil {
			return err
		}
		directory = directory[n:]
	}
	return nil
}

// bitmap returns the length of the first entry, or -1 if it is not whole.
func (x *examination) bitmap(b []byte) int {
	if len(b) < bitmapEntry {
		return -1
	}
	n := bitmapEntry + int(binary.BigEndian.Uint16(b[18:])) + int(min(binary.BigEndian.Uint32(b[20:]), maxBitmapDirectory))
	if n = (n + 7) &^ 7; n > len(b) {
		return -1
	}
	return n
}

// collectBitmap takes note of the table of the first bitmap of the directory at off, and of the clusters it names.
func (x *examination) collectBitmap(b []byte, at int64) error {
	off, entries := binary.BigEndian.Uint64(b), int64(binary.BigEndian.Uint32(b[8:]))
	if entries > maxL1Bytes/8 || off > uint64(x.f.Size()) || int64(off) > x.f.Size()-entries*8 {
		x.corrupt(at, "the table of a bitmap, %d entries at offset %#x, is not in the file", entries, off)
		return nil
	}
	if x.entries += entries; x.entries > maxCheckedL1 {
		return image.Limitf("qcow2: the tables of bitmaps and snapshots have more than %d entries", maxCheckedL1)
	}
	x.areas = append(x.areas, area{int64(off), entries * 8})
	return x.eachEntry(int64(off), entries*8, 8, func(i int64, b []byte) error {
		data := int64(binary.BigEndian.Uint64(b) & offsetMask)
		switch {
		case data == 0:
		case !x.inside(data, x.file.cluster()):
			x.corrupt(int64(off)+i*8, "entry %d of a bitmap's table names offset %#x, which is no cluster of the file", i, data)
		case len(x.areas) > maxCheckedTables:
			return image.Limitf("qcow2: bitmaps of more than %d clusters are not examined", maxCheckedTables)
		default:
			x.areas = append(x.areas, area{data, x.file.cluster()})
		}
		return nil
	})
}
