package qcow2

import (
	"encoding/binary"
	"math/bits"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/internal/mapped"
)

const (
	// offsetMask takes the file offset from an L1 entry or a standard L2 entry.
	offsetMask   = 0x00ff_ffff_ffff_fe00
	l2Compressed = 1 << 62
	l2Zero       = 1 << 0
	copied       = 1 << 63

	subclusters = 32
)

// Extent returns the run that begins at off, no longer than limit.
func (r *reader) Extent(off, limit int64) (image.Extent, error) {
	if err := r.l1Check(); err != nil {
		return image.Extent{}, err
	}
	return mapped.Merge(r.piece, off, limit)
}

// piece looks up what is at off.
func (r *reader) piece(off int64) (mapped.Piece, error) {
	cover := r.h.l2Cover()
	table, err := r.l2Table(off / cover)
	if err != nil {
		return mapped.Piece{}, err
	}
	if table == 0 {
		return mapped.Piece{Kind: image.Hole, Host: -1, N: cover - off%cover}, nil
	}
	size := r.h.l2EntrySize()
	b, err := r.tables.From(table, r.h.cluster(), off%cover>>r.h.clusterBits, size)
	if err != nil {
		return mapped.Piece{}, err
	}
	entry := binary.BigEndian.Uint64(b)
	in := off & (r.h.cluster() - 1)
	switch {
	case entry&l2Compressed != 0 && r.h.external():
		return mapped.Piece{}, image.Corruptf("qcow2: L2 entry %#x for offset %d is compressed, which an external data file's content never is", entry, off)
	case entry&l2Compressed != 0:
		return mapped.Piece{Kind: image.Data, Compressed: true, Host: -1, N: r.h.cluster() - in}, nil
	case size == 16:
		return r.subclusterPiece(entry, binary.BigEndian.Uint64(b[8:]), off)
	case entry&l2Zero != 0 && r.h.version >= 3:
		return mapped.Piece{Kind: image.Zero, Host: -1, N: r.h.cluster() - in}, nil
	case entry&l2Zero != 0:
		return mapped.Piece{}, image.Corruptf("qcow2: L2 entry %#x for offset %d has the zero flag, which version 2 does not have", entry, off)
	case !r.allocated(entry):
		return mapped.Piece{Kind: image.Hole, Host: -1, N: r.h.cluster() - in}, nil
	}
	return r.dataPiece(entry, off, r.h.cluster()-in)
}

// allocated reports whether an L2 entry names a cluster. In an external data file there is one at offset 0.
func (r *reader) allocated(entry uint64) bool {
	return entry&offsetMask != 0 || entry&copied != 0 && r.h.external()
}

// l2Table returns the file offset of L2 table i, or 0 if there is none.
func (r *reader) l2Table(i int64) (int64, error) {
	b, err := r.tables.From(int64(r.h.l1Offset), int64(r.h.l1Needed())*8, i, 8)
	if err != nil {
		return 0, err
	}
	off := int64(binary.BigEndian.Uint64(b) & offsetMask)
	if off&(r.h.cluster()-1) != 0 {
		return 0, image.Corruptf("qcow2: L1 entry %d points to offset %#x, which is no cluster", i, off)
	}
	return off, nil
}

// dataPiece checks that n bytes of plain content for off are in the file.
func (r *reader) dataPiece(entry uint64, off, n int64) (mapped.Piece, error) {
	host := int64(entry & offsetMask)
	if host&(r.h.cluster()-1) != 0 {
		return mapped.Piece{}, image.Corruptf("qcow2: L2 entry %#x for offset %d points to no cluster", entry, off)
	}
	host += off & (r.h.cluster() - 1)
	if need := min(n, r.info.VirtualSize-off); host > r.data.Size()-need {
		return mapped.Piece{}, image.Truncatedf("qcow2: the content of offset %d is at offset %d, past the end of the file at %d", off, host, r.data.Size())
	}
	return mapped.Piece{Kind: image.Data, Host: host, In: r.data, N: n}, nil
}

// subclusterPiece decodes an extended L2 entry. Bit i of the bitmap's low half says that subcluster i is allocated, of its high half that it reads
// as zeros.
func (r *reader) subclusterPiece(entry, bitmap uint64, off int64) (mapped.Piece, error) {
	allocated, zero := uint32(bitmap), uint32(bitmap>>32)
	if allocated&zero != 0 || allocated != 0 && !r.allocated(entry) {
		return mapped.Piece{}, image.Corruptf("qcow2: subcluster bitmap %#x for offset %d contradicts its entry %#x", bitmap, off, entry)
	}
	size := r.h.cluster() / subclusters
	in := off & (r.h.cluster() - 1)
	at := uint(in / size)
	run := func(set uint32) int64 { // bytes up to the first subcluster from off on whose bit is not set
		return int64(at+uint(bits.TrailingZeros32(^(set>>at))))*size - in
	}
	rest := r.h.cluster() - in
	switch bit := uint32(1) << at; {
	case allocated&bit != 0:
		return r.dataPiece(entry, off, min(run(allocated), rest))
	case zero&bit != 0:
		return mapped.Piece{Kind: image.Zero, Host: -1, N: min(run(zero), rest)}, nil
	default:
		return mapped.Piece{Kind: image.Hole, Host: -1, N: min(run(^(allocated | zero)), rest)}, nil
	}
}
