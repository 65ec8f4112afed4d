package vhd

import (
	"encoding/binary"
	"sync"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/internal/mapped"
	"github.com/hyperplane-project/hyperplane/converters/internal/tables"
)

// sparseReader reads a dynamic disk, or a differencing disk without its parent, whose content is a Hole.
type sparseReader struct {
	base
	head      *header
	headSound bool // the header's checksum is right
	tables    *tables.Cache
	bitmaps   bitmaps
	blocksOK  func() error // checks once that blocks do not overlap
}

var (
	_ image.Checker = (*sparseReader)(nil)
	_ image.Metered = (*sparseReader)(nil)
	_ mapped.Map    = (*sparseReader)(nil)
)

func openSparse(b base, force bool) (*sparseReader, error) {
	h, sound, err := readHeader(b.f, b.foot.dataOffset, force)
	if err != nil {
		return nil, err
	}
	if err := h.checkPlace(b.info.VirtualSize, b.end); err != nil {
		return nil, err
	}
	if !sound {
		b.warn("vhd: the image was opened with force: the checksum of its header is wrong")
	}
	r := &sparseReader{base: b, head: h, headSound: sound, tables: tables.New(b.f)}
	r.bitmaps.f, r.bitmaps.size = b.f, h.bitmapSize()
	r.blocksOK = sync.OnceValue(r.refuseOverlaps)
	r.info.ClusterSize = h.block
	if b.foot.kind == differencing {
		return r, r.nameParent()
	}
	return r, nil
}

// ReadAt reads the disk.
func (r *sparseReader) ReadAt(p []byte, off int64) (int, error) {
	return mapped.ReadAt(r, r.info.VirtualSize, p, off)
}

// NextExtent returns the run that begins at off.
func (r *sparseReader) NextExtent(off int64) (image.Extent, error) {
	return mapped.NextExtent(r, r.info.VirtualSize, off)
}

// Extent returns the run that begins at off, no longer than limit.
func (r *sparseReader) Extent(off, limit int64) (image.Extent, error) {
	if err := r.blocksOK(); err != nil {
		return image.Extent{}, err
	}
	return mapped.Merge(r.piece, off, limit)
}

// ReadCompressed is never called: nothing is compressed.
func (r *sparseReader) ReadCompressed([]byte, int64) error { return nil }

// piece looks up what is at off.
func (r *sparseReader) piece(off int64) (mapped.Piece, error) {
	in := off % r.head.block
	hole := mapped.Piece{Kind: image.Hole, Host: -1, N: r.head.block - in}
	sector, err := r.entry(off / r.head.block)
	if err != nil || sector == unused {
		return hole, err
	}
	at := int64(sector) * sectorSize
	n := r.head.block - in
	if r.foot.kind == differencing {
		here, run, err := r.bitmaps.run(at, in/sectorSize, r.end)
		if err != nil {
			return mapped.Piece{}, err
		}
		n = min(n, run*sectorSize-in%sectorSize)
		if !here {
			return mapped.Piece{Kind: image.Hole, Host: -1, N: n}, nil
		}
	}
	host := at + r.head.bitmapSize() + in
	// The last block may be cut off where the disk ends.
	if need := min(n, r.info.VirtualSize-off); host > r.end-need {
		return mapped.Piece{}, image.Truncatedf("vhd: the content of offset %d is at offset %d, past %d, where the blocks end", off, host, r.end)
	}
	return mapped.Piece{Kind: image.Data, Host: host, In: r.f, N: n}, nil
}

// entry returns the sector of the file at which block i begins.
func (r *sparseReader) entry(i int64) (uint32, error) {
	b, err := r.tables.From(r.head.tableAt, r.head.needed(r.info.VirtualSize)*4, i, 4)
	if err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint32(b), nil
}
