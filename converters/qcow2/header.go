// Package qcow2 reads and writes QEMU's qcow2 images, versions 2 and 3. Of other files, a backing file or an external data file, those are opened
// that the caller allows. Encrypted images are recognised and refused.
//
// The format's description is docs/interop/qcow2.txt of QEMU; limits are those QEMU enforces, so that what is accepted here is accepted there.
package qcow2

import (
	"bytes"
	"encoding/binary"
	"math"

	"github.com/hyperplane-project/hyperplane/converters/image"
)

const (
	magic = "QFI\xfb"

	headerV2 = 72
	headerV3 = 104
	// headerWithCompression is the length of a header that has the compression type, padded to eight bytes.
	headerWithCompression = 112

	minClusterBits = 9
	maxClusterBits = 21
	maxL1Bytes     = 32 << 20
	maxRefcountLog = 6
	maxNameLength  = 1023
)

// Incompatible features: a reader must know each bit that is set.
const (
	featureDirty        = 1 << 0
	featureCorrupt      = 1 << 1
	featureExternalData = 1 << 2
	featureCompression  = 1 << 3
	featureExtendedL2   = 1 << 4

	featuresKnown = featureDirty | featureCorrupt | featureExternalData | featureCompression | featureExtendedL2
)

// Compression types.
const (
	compressZlib = 0
	compressZstd = 1
)

// autoclearBitmaps says that the bitmaps extension is up to date. An old program that wrote to the image has cleared it.
const autoclearBitmaps = 1 << 0

// header is the part of the header that reading the disk needs. Of an internal snapshot it has the snapshot's size and L1 table.
type header struct {
	version       uint32
	backingOffset uint64
	backingSize   uint32
	clusterBits   uint32
	size          uint64
	encryption    uint32
	l1Entries     uint32
	l1Offset      uint64
	refcounts     uint64 // offset of the refcount table
	refClusters   uint32 // and its size in clusters
	snapshots     uint32
	snapshotsAt   uint64
	features      uint64
	autoclear     uint64
	refcountOrder uint32
	length        uint32
	compression   uint8
}

// parseHeader reads the fixed part of the header. b is the start of the file, up to headerWithCompression bytes.
func parseHeader(b []byte) (*header, error) {
	if len(b) < len(magic) || !bytes.HasPrefix(b, []byte(magic)) {
		return nil, image.ErrWrongFormat
	}
	if len(b) >= 8 && binary.BigEndian.Uint32(b[4:]) == 1 {
		return nil, image.ErrWrongFormat // package qcow reads version 1
	}
	if len(b) < headerV2 {
		return nil, image.Truncatedf("qcow2: the file ends inside the header")
	}
	be := binary.BigEndian
	h := &header{
		version: be.Uint32(b[4:]), backingOffset: be.Uint64(b[8:]), backingSize: be.Uint32(b[16:]),
		clusterBits: be.Uint32(b[20:]), size: be.Uint64(b[24:]), encryption: be.Uint32(b[32:]),
		l1Entries: be.Uint32(b[36:]), l1Offset: be.Uint64(b[40:]), snapshots: be.Uint32(b[60:]),
		snapshotsAt: be.Uint64(b[64:]), refcounts: be.Uint64(b[48:]), refClusters: be.Uint32(b[56:]), length: headerV2, refcountOrder: refcountOrder,
	}
	switch h.version {
	case 2:
		return h, h.check()
	case 3:
		if len(b) < headerV3 {
			return nil, image.Truncatedf("qcow2: the file ends inside the header")
		}
	default:
		return nil, image.Unsupportedf("qcow2: version %d; only versions 2 and 3 are read", h.version)
	}
	h.features, h.autoclear, h.length, h.refcountOrder = be.Uint64(b[72:]), be.Uint64(b[88:]), be.Uint32(b[100:]), be.Uint32(b[96:])
	if h.refcountOrder > maxRefcountLog {
		return nil, image.Corruptf("qcow2: refcount order %d at offset 96 is above %d", h.refcountOrder, maxRefcountLog)
	}
	if h.length < headerV3 || h.length%8 != 0 {
		return nil, image.Corruptf("qcow2: header length %d at offset 100 is below %d or no multiple of 8", h.length, headerV3)
	}
	if h.features&featureCompression != 0 {
		if h.length <= headerV3 || len(b) <= headerV3 {
			return nil, image.Corruptf("qcow2: the header says there is a compression type but has no room for it")
		}
		h.compression = b[headerV3]
	}
	return h, h.check()
}

// check refuses what reading cannot do and numbers no image can have.
func (h *header) check() error {
	if unknown := h.features &^ featuresKnown; unknown != 0 {
		return image.Unsupportedf("qcow2: incompatible features %#x are not known", unknown)
	}
	if h.clusterBits < minClusterBits || h.clusterBits > maxClusterBits {
		return image.Corruptf("qcow2: cluster bits %d at offset 20 are not between %d and %d", h.clusterBits, minClusterBits, maxClusterBits)
	}
	if int64(h.length) > h.cluster() {
		return image.Corruptf("qcow2: header length %d exceeds the cluster of %d bytes", h.length, h.cluster())
	}
	if h.compression > compressZstd {
		return image.Unsupportedf("qcow2: compression type %d; only zlib (0) and zstd (1) are read", h.compression)
	}
	if h.extended() && h.clusterBits < 14 {
		return image.Corruptf("qcow2: extended L2 entries need clusters of at least 16 KiB, these have %d bytes", h.cluster())
	}
	switch h.encryption {
	case 0:
	case 1:
		return image.Encryptedf("qcow2: the content is encrypted with AES; decrypt it first: qemu-img convert")
	case 2:
		return image.Encryptedf("qcow2: the content is encrypted with LUKS; decrypt it first: qemu-img convert")
	default:
		return image.Unsupportedf("qcow2: encryption method %d is not known", h.encryption)
	}
	return h.checkSize()
}

func (h *header) checkSize() error {
	if h.size > math.MaxInt64 {
		return image.Limitf("qcow2: virtual size %d at offset 24 exceeds %d", h.size, int64(math.MaxInt64))
	}
	if int64(h.l1Entries) > maxL1Bytes/8 {
		return image.Limitf("qcow2: L1 table of %d entries at offset 36 exceeds %d bytes", h.l1Entries, maxL1Bytes)
	}
	if need := h.l1Needed(); uint64(h.l1Entries) < need {
		return image.Corruptf("qcow2: L1 table has %d entries, a disk of %d bytes needs %d", h.l1Entries, h.size, need)
	}
	if h.l1Offset%uint64(h.cluster()) != 0 || h.l1Offset > math.MaxInt64-maxL1Bytes {
		return image.Corruptf("qcow2: L1 table offset %#x at offset 40 is not at a cluster", h.l1Offset)
	}
	return nil
}

// cluster returns the cluster size in bytes.
func (h *header) cluster() int64 { return 1 << h.clusterBits }

// external reports whether the content is in a file of its own.
func (h *header) external() bool { return h.features&featureExternalData != 0 }

// extended reports whether L2 entries have a bitmap of subclusters.
func (h *header) extended() bool { return h.features&featureExtendedL2 != 0 }

// l2EntrySize is 8, or 16 with a bitmap.
func (h *header) l2EntrySize() int64 {
	if h.extended() {
		return 16
	}
	return 8
}

// l2Cover returns how many bytes of the disk an L2 table maps.
func (h *header) l2Cover() int64 { return h.cluster() / h.l2EntrySize() * h.cluster() }

// variant returns the word for the kind of image.
func (h *header) variant() string {
	switch {
	case h.version == 2:
		return "v2"
	case h.extended():
		return variantExtended
	default:
		return variantV3
	}
}

// l1Needed returns how many L1 entries the virtual size takes.
func (h *header) l1Needed() uint64 {
	cover := uint64(h.l2Cover())
	return h.size/cover + min(1, h.size%cover)
}
