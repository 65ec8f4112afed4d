// Package qcow reads version 1 of QEMU's own disk format, which versions 2 and 3 (package qcow2) have replaced: a header, two levels of tables, and
// clusters that are plain or compressed. It is not written.
//
// The format has no published description. The layout is that of qemu-img's output (-O qcow). Numbers are big-endian.
package qcow

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

const (
	magic      = "QFI\xfb\x00\x00\x00\x01" // the four bytes of all versions, and version 1
	headerSize = 48

	// The limits are QEMU's.
	minClusterBits = 9
	maxClusterBits = 16
	minTableBits   = 6 // a table of 512 bytes
	maxTableBits   = 13
	maxNameLength  = 1023
	// maxL1Bytes bounds the first table: 64 TiB of disk in qemu-img's default geometry.
	maxL1Bytes = 256 << 20
)

// header is what reading needs of the header.
type header struct {
	size        int64
	clusterBits uint8
	tableBits   uint8 // log2 of an L2 table's entries
	l1Offset    int64
	l1Entries   int64
	backingAt   uint64
	backingSize uint32
}

// readHeader reads and checks the header.
func readHeader(f image.File) (*header, error) {
	b := make([]byte, headerSize)
	n, err := f.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fault.Wrap(err, "qcow: read the header")
	}
	if b = b[:n]; !bytes.HasPrefix(b, []byte(magic)) {
		return nil, image.ErrWrongFormat
	}
	if n < headerSize {
		return nil, image.Truncatedf("qcow: the file ends inside the header, at offset %d", n)
	}
	be := binary.BigEndian
	h := &header{clusterBits: b[32], tableBits: b[33], backingAt: be.Uint64(b[8:]), backingSize: be.Uint32(b[16:])}
	switch method := be.Uint32(b[36:]); method {
	case 0:
	case 1:
		return nil, image.Encryptedf("qcow: the content is encrypted with AES; decrypt it first: qemu-img convert")
	default:
		return nil, image.Unsupportedf("qcow: encryption method %d at offset 36 is not known", method)
	}
	return h, h.checkLayout(be.Uint64(b[24:]), be.Uint64(b[40:]), f.Size())
}

// checkLayout takes over the disk's size and the place of the L1 table, if an image can have them.
func (h *header) checkLayout(size, l1 uint64, file int64) error {
	switch {
	case h.clusterBits < minClusterBits || h.clusterBits > maxClusterBits:
		return image.Corruptf("qcow: cluster bits %d at offset 32 are not between %d and %d", h.clusterBits, minClusterBits, maxClusterBits)
	case h.tableBits < minTableBits || h.tableBits > maxTableBits:
		return image.Corruptf("qcow: L2 bits %d at offset 33 are not between %d and %d", h.tableBits, minTableBits, maxTableBits)
	case size > math.MaxInt64-1<<(maxClusterBits+maxTableBits):
		return image.Limitf("qcow: virtual size %d at offset 24 is too large", size)
	}
	h.size = int64(size)
	h.l1Entries = (h.size + h.cover() - 1) / h.cover()
	if h.l1Size() > maxL1Bytes {
		return image.Limitf("qcow: a disk of %d bytes needs an L1 table of %d bytes, more than %d", size, h.l1Size(), maxL1Bytes)
	}
	if l1 > uint64(file) || int64(l1) > file-h.l1Size() {
		return image.Truncatedf("qcow: L1 table of %d bytes at offset %d reaches past the end of the file at %d", h.l1Size(), l1, file)
	}
	h.l1Offset = int64(l1)
	return nil
}

func (h *header) cluster() int64   { return 1 << h.clusterBits }
func (h *header) l1Size() int64    { return h.l1Entries * 8 }
func (h *header) tableSize() int64 { return 8 << h.tableBits }

// cover returns how many bytes of the disk an L2 table maps.
func (h *header) cover() int64 { return 1 << (h.clusterBits + h.tableBits) }

// backing reads the name of the backing file; "" is none.
func (h *header) backing(f image.File) (string, error) {
	if h.backingAt == 0 {
		return "", nil
	}
	if h.backingSize == 0 || h.backingSize > maxNameLength {
		return "", image.Corruptf("qcow: backing file name of %d bytes, not 1 to %d", h.backingSize, maxNameLength)
	}
	if h.backingAt > uint64(f.Size()) {
		return "", image.Truncatedf("qcow: the backing file's name at offset %d is past the end of the file at %d", h.backingAt, f.Size())
	}
	name := make([]byte, h.backingSize)
	if err := image.ReadFull(f, name, int64(h.backingAt), "qcow backing file name"); err != nil {
		return "", err
	}
	return string(name), nil
}
