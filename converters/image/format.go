package image

import (
	"errors"
	"io"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// Format is one disk format. What it cannot do is nil.
type Format struct {
	// Name is what users call the format: raw, qcow2, vmdk.
	Name string
	// Open makes a Reader that owns f. It returns ErrWrongFormat, from looking at the magic only, if the file is of another format. It reads
	// at most MaxOpenBytes of f. On error f stays the caller's. Options that mean nothing to the format are refused where ignoring them would
	// give other content (Snapshot, Member); SizeRule is for VHD alone and others ignore it.
	Open func(f File, o OpenOptions) (Reader, error)
	// OpenStream makes a Stream. size is the size of the stream in bytes if the caller knows it, or -1. Close of the Stream does not close r.
	OpenStream func(r io.Reader, size int64) (Stream, error)
	// Create begins an image in an empty out. A Placer writes nothing yet.
	Create func(out Output, o CreateOptions) (Writer, error)
}

// MaxOpenBytes is how much of a file opening may read, however large the numbers in its header.
const MaxOpenBytes = 1 << 20

// CheckOffset returns an error for an offset outside a disk of size bytes.
func CheckOffset(off, size int64) error {
	if off < 0 || off >= size {
		return fault.New(fault.OutOfRange, "offset %d is outside a disk of %d bytes", off, size)
	}
	return nil
}

// ReadFull fills p from off. A file that has less is truncated: whoever calls has it from the file's own metadata that the bytes are there.
func ReadFull(r io.ReaderAt, p []byte, off int64, what string) error {
	n, err := r.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		return Truncatedf("%s: %d bytes at offset %d reach past the end", what, len(p), off)
	}
	return fault.Wrap(err, "%s: read at offset %d", what, off)
}
