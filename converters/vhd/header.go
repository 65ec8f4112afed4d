package vhd

import (
	"encoding/binary"

	"github.com/hyperplane-project/hyperplane/converters/image"
)

const (
	headerSize   = 1024
	headerCookie = "cxsparse"
	// headerChecksumAt is where the header has its checksum.
	headerChecksumAt = 36
	// unused is the table entry of a block that is not in the file.
	unused = 1<<32 - 1
	// The sizes of blocks that are read. Hyper-V makes 2 MiB and 512 KiB.
	minBlock = 4 << 10
	maxBlock = 256 << 20
	// maxTable bounds the part of the table that a disk uses, in bytes. 2040 GiB in blocks of 512 KiB need 16 MiB.
	maxTable = 64 << 20
)

// header is the header of a dynamic or differencing disk.
type header struct {
	at       int64 // its own place in the file
	tableAt  int64 // of the block allocation table
	entries  int64 // the table's
	block    int64 // bytes of a block, without its bitmap
	parentID [16]byte
	// parentName is UTF-16BE, padded with zeros.
	parentName [512]byte
	locators   []locator
}

// locator says where a form of the parent's name is.
type locator struct {
	platform string // four bytes: W2ru, W2ku, …
	length   uint32 // bytes of the name
	at       uint64
}

// bitmapSize returns how many bytes the bitmap in front of a block takes.
func (h *header) bitmapSize() int64 {
	const covered = sectorSize * 8 * sectorSize // what a sector of bits stands for
	return max(1, h.block/covered) * sectorSize
}

// readHeader reads the header the footer points to. Without force a wrong checksum is refused.
func readHeader(f image.File, at uint64, force bool) (h *header, sound bool, err error) {
	if at < footerSize || at > uint64(f.Size()) {
		return nil, false, image.Corruptf("vhd: the footer says that the header is at offset %d of a file of %d bytes", at, f.Size())
	}
	b := make([]byte, headerSize)
	if err := image.ReadFull(f, b, int64(at), "vhd header"); err != nil {
		return nil, false, err
	}
	if string(b[:8]) != headerCookie {
		return nil, false, image.Corruptf("vhd: there is no header at offset %d", at)
	}
	sound = binary.BigEndian.Uint32(b[headerChecksumAt:]) == checksum(b, headerChecksumAt)
	if !sound && !force {
		return nil, false, image.Corruptf("vhd: the checksum of the header at offset %d is wrong; to read it all the same, open the image with force", at)
	}
	h, err = parseHeader(b)
	if err != nil {
		return nil, false, err
	}
	h.at = int64(at)
	return h, sound, nil
}

func parseHeader(b []byte) (*header, error) {
	be := binary.BigEndian
	if v := be.Uint32(b[24:]); v>>16 != version>>16 {
		return nil, image.Unsupportedf("vhd: header version %d.%d; only 1.x is known", v>>16, v&0xffff)
	}
	h := &header{entries: int64(be.Uint32(b[28:])), block: int64(be.Uint32(b[32:])), parentID: [16]byte(b[40:56]), parentName: [512]byte(b[64:576])}
	if h.block < minBlock || h.block > maxBlock || h.block&(h.block-1) != 0 {
		return nil, image.Corruptf("vhd: the block size is %d, no power of two between %d and %d", h.block, minBlock, maxBlock)
	}
	table := be.Uint64(b[16:])
	if table > maxRead {
		return nil, image.Truncatedf("vhd: the block allocation table is at offset %d", table)
	}
	h.tableAt = int64(table)
	for e := b[576:768]; len(e) > 0; e = e[24:] {
		if be.Uint32(e) != 0 {
			h.locators = append(h.locators, locator{platform: string(e[:4]), length: be.Uint32(e[8:]), at: be.Uint64(e[16:])})
		}
	}
	return h, nil
}

// encode returns the 1024 bytes of a dynamic disk's header.
func (h *header) encode() []byte {
	be := binary.BigEndian
	b := make([]byte, headerSize)
	copy(b, headerCookie)
	be.PutUint64(b[8:], noOffset)
	be.PutUint64(b[16:], uint64(h.tableAt))
	be.PutUint32(b[24:], version)
	be.PutUint32(b[28:], uint32(h.entries))
	be.PutUint32(b[32:], uint32(h.block))
	be.PutUint32(b[headerChecksumAt:], checksum(b, headerChecksumAt))
	return b
}

// checkPlace refuses a table that does not cover the disk, is not inside the file, or lies on the footer or the header. Blocks must end at end.
func (h *header) checkPlace(size, end int64) error {
	needed := h.needed(size)
	if needed > h.entries {
		return image.Corruptf("vhd: the block allocation table has %d entries, a disk of %d bytes needs %d", h.entries, size, needed)
	}
	if needed*4 > maxTable {
		return image.Limitf("vhd: a disk of %d bytes in blocks of %d has a table of %d bytes, more than %d", size, h.block, needed*4, maxTable)
	}
	if h.at > end-headerSize {
		return image.Corruptf("vhd: the header at offset %d reaches into the footer at %d", h.at, end)
	}
	if h.tableAt > end-needed*4 {
		return image.Truncatedf("vhd: the block allocation table of %d entries at offset %d reaches past %d, where the blocks end", needed, h.tableAt, end)
	}
	if needed > 0 && (h.tableAt < footerSize || h.tableAt < h.at+headerSize && h.at < h.tableAt+needed*4) {
		return image.Corruptf("vhd: the block allocation table at offset %d lies on the footer or on the header at %d", h.tableAt, h.at)
	}
	return nil
}

// needed returns how many entries of the table a disk of size bytes uses.
func (h *header) needed(size int64) int64 { return (size + h.block - 1) / h.block }
