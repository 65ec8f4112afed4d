package vhd

import (
	"slices"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

const (
	// maxWritten is the largest disk that is written, in bytes: what Hyper-V, Azure and QEMU take. A table of 32-bit sectors allows little more.
	maxWritten = 2040 << 30
	// maxRead is the largest disk that is read. The file of such a disk must have holes, and no tool makes one.
	maxRead = 64 << 40
)

// geometry is a disk's size in cylinders, heads and sectors per track.
type geometry struct {
	cylinders      uint16
	heads, sectors uint8
}

// maxGeometry is the largest geometry: 127.5 GiB. Larger disks have it too, and it says nothing about their size.
func maxGeometry() geometry { return geometry{65535, 16, 255} }

// bytes returns the size that the geometry states.
func (g geometry) bytes() int64 {
	return int64(g.cylinders) * int64(g.heads) * int64(g.sectors) * sectorSize
}

// newGeometry computes the geometry of a disk by the appendix "CHS calculation" of the specification.
func newGeometry(size int64) geometry {
	total := min(size/sectorSize, maxGeometry().bytes()/sectorSize)
	if total >= 65535*16*63 {
		return geometry{uint16(total / 255 / 16), 16, 255}
	}
	sectors, tracks := int64(17), total/17
	heads := max(4, (tracks+1023)/1024)
	if tracks >= heads*1024 || heads > 16 {
		sectors, heads, tracks = 31, 16, total/31
	}
	if tracks >= heads*1024 {
		sectors, heads, tracks = 63, 16, total/63
	}
	return geometry{uint16(tracks / heads), uint8(heads), uint8(sectors)}
}

// believesGeometry are the creators whose disks end where the geometry says, although the footer's size goes on: Virtual PC, and QEMU before version 10.
func believesGeometry() []string { return []string{"vpc ", "qemu"} }

// virtualSize returns the size of the disk in bytes. It is the current size, unless the creator goes by the geometry and that is less. The largest
// geometry does not count: it stands for all larger disks.
func (f footer) virtualSize(rule image.SizeRule) (int64, error) {
	if f.size > maxRead {
		return 0, image.Limitf("vhd: a disk of %d bytes exceeds %d", f.size, int64(maxRead))
	}
	size, byGeometry := int64(f.size), f.geometry.bytes()
	switch rule {
	case image.SizeByCurrent:
		return size, nil
	case image.SizeByGeometry:
		return byGeometry, nil
	case image.SizeByCreator:
		if byGeometry > 0 && f.geometry != maxGeometry() && slices.Contains(believesGeometry(), f.creator) {
			size = min(size, byGeometry)
		}
		return size, nil
	}
	return 0, fault.New(fault.InvalidArgument, "vhd: there is no size rule %q; there is %s, %s", rule, image.SizeByCurrent, image.SizeByGeometry)
}
