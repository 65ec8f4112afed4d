package converters

import (
	"context"
	"crypto/sha256"
	"errors"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// guard counts what is written to an output and ends it at a limit.
type guard struct {
	image.Output
	file  *os.File     // the file behind Output, or nil
	total *budget      // of all files of the image
	end   atomic.Int64 // size of the output
}

// budget is how many bytes may be written to all files of an image.
type budget struct {
	limit   int64 // 0 is none
	written atomic.Int64
}

func newGuard(out image.Output, total *budget) *guard {
	g := &guard{Output: out, total: total}
	switch o := out.(type) {
	case *os.File:
		g.file = o
	case image.Backed:
		g.file = o.OS()
	}
	return g
}

// WriteAt writes to the output, if the limit allows.
func (g *guard) WriteAt(p []byte, off int64) (int, error) {
	if err := g.count(int64(len(p))); err != nil {
		return 0, err
	}
	n, err := g.Output.WriteAt(p, off)
	g.grow(off + int64(n))
	return n, err
}

// Truncate sets the output's size.
func (g *guard) Truncate(size int64) error {
	g.end.Store(size)
	return g.Output.Truncate(size)
}

// Clone shares n bytes of another file with the output. What cannot be cloned is an error that wraps errors.ErrUnsupported or is the system's.
func (g *guard) Clone(from *os.File, fromOff, toOff, n int64) error {
	if g.file == nil {
		return errors.ErrUnsupported
	}
	err := unix.IoctlFileCloneRange(int(g.file.Fd()), &unix.FileCloneRange{
		Src_fd: int64(from.Fd()), Src_offset: uint64(fromOff), Src_length: uint64(n), Dest_offset: uint64(toOff),
	})
	if err != nil {
		return err
	}
	g.grow(toOff + n)
	return g.count(n)
}

func (g *guard) count(n int64) error {
	if total := g.total.written.Add(n); g.total.limit > 0 && total > g.total.limit {
		return image.Limitf("the output exceeds %d bytes", g.total.limit)
	}
	return nil
}

// grow notes that the output reaches to end.
func (g *guard) grow(end int64) {
	for old := g.end.Load(); end > old && !g.end.CompareAndSwap(old, end); old = g.end.Load() {
	}
}

func (g *guard) size() int64 { return g.end.Load() }

// digest reads the output again.
func (g *guard) digest(ctx context.Context) (sum [sha256.Size]byte, err error) {
	h := sha256.New()
	buf := make([]byte, step)
	for off := int64(0); off < g.size(); off += step {
		if err := ctx.Err(); err != nil {
			return sum, err
		}
		p := buf[:min(step, g.size()-off)]
		if err := readAt(g, p, off); err != nil {
			return sum, fault.Wrap(err, "read the output back for its digest")
		}
		h.Write(p)
	}
	h.Sum(sum[:0])
	return sum, nil
}
