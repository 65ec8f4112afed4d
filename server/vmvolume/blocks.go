package vmvolume

import (
	"crypto/sha512"
	"crypto/subtle"
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// pieceSize is how much of a block is read and sent at once, in bytes.
const pieceSize = 256 << 10

// blocks is a file in blocks of 2 to the power of order bytes; order 0 makes it one block.
type blocks struct {
	f     *os.File
	size  int64
	order uint32
	buf   []byte
	zeros []byte // never written to

	// hole is a range known to hold zeros only; data a range where something is.
	hole, data span
	// zeroDigest is that of a full block of zeros, once it was needed.
	zeroDigest []byte
}

// span is a range of a file, from a to before b.
type span struct{ a, b int64 }

func (s span) holds(a, b int64) bool { return a >= s.a && b <= s.b }

func newBlocks(f *os.File, order uint32) (*blocks, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, fault.Wrap(err, "open")
	}
	return &blocks{f: f, size: info.Size(), order: order, buf: make([]byte, pieceSize), zeros: make([]byte, pieceSize)}, nil
}

// count is the number of blocks. An empty file has none.
func (b *blocks) count() int64 {
	if b.order == 0 {
		return min(b.size, 1)
	}
	return (b.size + 1<<b.order - 1) >> b.order
}

// bounds returns where a block begins and ends.
func (b *blocks) bounds(i int64) (start, end int64) {
	if b.order == 0 {
		return 0, b.size
	}
	return i << b.order, min((i+1)<<b.order, b.size)
}

// equal compares the SHA-512 digest of a block. A hole is not read.
func (b *blocks) equal(i int64, digest []byte) (bool, error) {
	if len(digest) != sha512.Size {
		return false, fault.New(fault.InvalidArgument, "block_digests: that of block %d has %d bytes; SHA-512 has %d", i, len(digest), sha512.Size)
	}
	start, end := b.bounds(i)
	full := end-start == 1<<b.order
	if full && b.isHole(start, end) && b.zeroDigest != nil {
		return subtle.ConstantTimeCompare(b.zeroDigest, digest) == 1, nil
	}
	h := sha512.New()
	for off := start; off < end; {
		p, err := b.piece(off, min(pieceSize, end-off))
		if err != nil {
			return false, err
		}
		_, _ = h.Write(p) // a hash takes everything
		off += int64(len(p))
	}
	sum := h.Sum(nil)
	if full && b.isHole(start, end) {
		b.zeroDigest = sum
	}
	return subtle.ConstantTimeCompare(sum, digest) == 1, nil
}

// piece returns n bytes of the file, at most pieceSize, which are valid until the next call. A file that became shorter ends in zeros: what a client is told
// of its length stays true.
func (b *blocks) piece(off, n int64) ([]byte, error) {
	if b.isHole(off, off+n) {
		return b.zeros[:n], nil
	}
	p := b.buf[:n]
	got, err := b.f.ReadAt(p, off)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fault.Wrap(err, "read")
	}
	clear(p[got:])
	return p, nil
}

// isHole reports whether a range is all hole, as lseek(2) tells. Where the file system does not tell it is not.
func (b *blocks) isHole(start, end int64) bool {
	switch {
	case b.hole.holds(start, end):
		return true
	case start >= b.data.a && start < b.data.b:
		return false
	}
	data, err := unix.Seek(int(b.f.Fd()), start, unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.ENXIO): // nothing but a hole up to the end
		b.hole = span{start, b.size}
	case err != nil:
		b.data = span{start, b.size}
	case data > start:
		b.hole = span{start, data}
	default:
		next, err := unix.Seek(int(b.f.Fd()), start, unix.SEEK_HOLE)
		if err != nil {
			next = b.size
		}
		b.data = span{start, next}
	}
	return b.hole.holds(start, end)
}
