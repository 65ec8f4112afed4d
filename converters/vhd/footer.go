package vhd

import (
	"encoding/binary"
	"fmt"

	"github.com/hyperplane-project/hyperplane/converters/image"
)

const (
	sectorSize = 512
	footerSize = 512
	// shortFooter is the size of the footer in files of old versions of Virtual PC.
	shortFooter  = 511
	footerCookie = "conectix"

	// checksumAt is where the footer has its checksum.
	checksumAt = 64
	// features has the one bit that the specification wants set, version is 1.0.
	features = 2
	version  = 0x0001_0000
	// noOffset is the data offset of a file without a header.
	noOffset = 1<<64 - 1
)

// kind is the footer's disk type.
type kind uint32

// The kinds that are used.
const (
	fixed        kind = 2
	dynamic      kind = 3
	differencing kind = 4
)

// String returns the kind's word, which is the Variant of its images.
func (k kind) String() string {
	switch k {
	case fixed:
		return "fixed"
	case dynamic:
		return "dynamic"
	case differencing:
		return "differencing"
	default:
		return fmt.Sprintf("type %d", uint32(k))
	}
}

// footer is what reading and writing need of a footer.
type footer struct {
	version    uint32
	dataOffset uint64 // of the header of dynamic and differencing disks
	creator    string // four bytes
	size       uint64 // current size in bytes
	geometry   geometry
	kind       kind
	id         [16]byte
}

// parseFooter decodes 512 bytes. ok says that they begin like a footer, sound that their checksum is right.
func parseFooter(b []byte) (f footer, sound, ok bool) {
	be := binary.BigEndian
	f = footer{
		version:    be.Uint32(b[12:]),
		dataOffset: be.Uint64(b[16:]),
		creator:    string(b[28:32]),
		size:       be.Uint64(b[48:]),
		geometry:   geometry{be.Uint16(b[56:]), b[58], b[59]},
		kind:       kind(be.Uint32(b[60:])),
		id:         [16]byte(b[68:84]),
	}
	return f, be.Uint32(b[checksumAt:]) == checksum(b, checksumAt), string(b[:8]) == footerCookie
}

// encode returns the footer's 512 bytes. There is no time in them: the same disk gives the same file.
func (f footer) encode() []byte {
	be := binary.BigEndian
	b := make([]byte, footerSize)
	copy(b, footerCookie)
	be.PutUint32(b[8:], features)
	be.PutUint32(b[12:], f.version)
	be.PutUint64(b[16:], f.dataOffset)
	copy(b[28:], f.creator)
	be.PutUint32(b[32:], 0x000a_0000) // creator version and host, as Windows writes them
	copy(b[36:], "Wi2k")
	be.PutUint64(b[40:], f.size)
	be.PutUint64(b[48:], f.size)
	be.PutUint16(b[56:], f.geometry.cylinders)
	b[58], b[59] = f.geometry.heads, f.geometry.sectors
	be.PutUint32(b[60:], uint32(f.kind))
	copy(b[68:], f.id[:])
	be.PutUint32(b[checksumAt:], checksum(b, checksumAt))
	return b
}

// check refuses footers of formats that are not this one.
func (f footer) check() error {
	if f.version>>16 != version>>16 {
		return image.Unsupportedf("vhd: format version %d.%d; only 1.x is known", f.version>>16, f.version&0xffff)
	}
	switch f.kind {
	case fixed, dynamic, differencing:
		return nil
	}
	return image.Unsupportedf("vhd: disks of %v are not read; only fixed (2), dynamic (3) and differencing (4)", f.kind)
}

// contentID writes a unique id the way UUIDs are written.
func contentID(id [16]byte) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
}

// checksum is the complement of the sum of all bytes, without the four of the checksum itself, which are at the given place.
func checksum(b []byte, at int) uint32 {
	var sum uint32
	for i, x := range b {
		if i < at || i >= at+4 {
			sum += uint32(x)
		}
	}
	return ^sum
}
