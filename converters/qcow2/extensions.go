package qcow2

import (
	"encoding/binary"

	"github.com/hyperplane-project/hyperplane/converters/image"
)

// Header extensions that say something about reading.
const (
	extensionEnd           = 0
	extensionBackingFormat = 0xe2792aca
	extensionBitmaps       = 0x23852875
	extensionData          = 0x44415441
)

// maxExtensions bounds how much of the first cluster is searched for header extensions.
const maxExtensions = 64 << 10

// bitmaps is where the directory of dirty bitmaps is.
type bitmaps struct {
	count     uint32
	size, off uint64 // of the directory, in bytes
}

// extensions is what the header extensions say.
type extensions struct {
	backingFormat string // QEMU's word
	dataFile      *string
	bitmaps       *bitmaps
}

// readExtensions walks the header extensions. Unknown ones are skipped, as the format wants.
func (h *header) readExtensions(f image.File) (*extensions, error) {
	end := min(h.cluster(), f.Size(), maxExtensions)
	if h.backingOffset != 0 && h.backingOffset < uint64(end) {
		end = int64(h.backingOffset)
	}
	b := make([]byte, max(0, end-int64(h.length)))
	if err := image.ReadFull(f, b, int64(h.length), "qcow2 header extensions"); err != nil {
		return nil, err
	}
	x := &extensions{}
	for len(b) >= 8 {
		kind, n := binary.BigEndian.Uint32(b), uint64(binary.BigEndian.Uint32(b[4:]))
		if kind == extensionEnd {
			break
		}
		b = b[8:]
		if n > uint64(len(b)) {
			return nil, image.Corruptf("qcow2: header extension %#x of %d bytes reaches past the header", kind, n)
		}
		if err := x.add(kind, b[:n]); err != nil {
			return nil, err
		}
		b = b[min(uint64(len(b)), (n+7)/8*8):]
	}
	return x, nil
}

// add takes note of one extension.
func (x *extensions) add(kind uint32, b []byte) error {
	switch kind {
	case extensionBackingFormat:
		x.backingFormat = string(b[:min(len(b), maxNameLength)])
	case extensionData:
		name := string(b[:min(len(b), maxNameLength)])
		x.dataFile = &name
	case extensionBitmaps:
		if len(b) < 24 {
			return image.Corruptf("qcow2: the bitmaps extension has %d bytes, not 24", len(b))
		}
		be := binary.BigEndian
		x.bitmaps = &bitmaps{count: be.Uint32(b), size: be.Uint64(b[8:]), off: be.Uint64(b[16:])}
	}
	return nil
}

// formatOf returns Hyperplane's word for a format that QEMU's word names, or "" if there is none.
func formatOf(qemu string) string {
	switch qemu {
	case "raw", "qcow", "qcow2", "vmdk", "vhdx", "vdi":
		return qemu
	case "vpc":
		return "vhd"
	default:
		return ""
	}
}

// qemuFormat is the inverse of formatOf.
func qemuFormat(format string) string {
	if format == "vhd" {
		return "vpc"
	}
	if format == "vpc" {
		return ""
	}
	return formatOf(format)
}
