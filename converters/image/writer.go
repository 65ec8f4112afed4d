package image

import (
	"io"
	"iter"
	"os"
)

// Output is where a Writer puts an image. A *os.File opened for reading and writing is one. Writes of several goroutines may overlap in
// time, never in place.
type Output interface {
	io.WriterAt
	io.ReaderAt
	// Truncate sets the file's size; bytes that were never written read as zeros.
	Truncate(size int64) error
}

// Writer lays one disk out in one format. It is either a Placer (formats that hold plain content) or an Appender (formats that hold each
// unit encoded, one after the other). The copy reads, looks for zeros, encodes and writes in parallel; the Writer decides where things go
// and keeps the metadata. What is never placed or appended reads as zeros.
type Writer interface {
	// Unit is the size in bytes of what the format allocates at once: a power of two. The last unit of a disk may reach past its end.
	Unit() int64
	// Finish writes the metadata that is still missing. It is called once, when everything that was placed has been written. An image
	// whose Finish was not called or failed is not usable.
	Finish() error
}

// Placer is a Writer of a format that holds plain content.
type Placer interface {
	Writer
	// Place allocates room for the units that cover [off, off+n) and returns the offset in the file of off's first byte and for how
	// many bytes from there the room is in one piece (at least one unit; the caller asks again for the rest). off is a multiple of Unit.
	// It is called by one goroutine at a time, in the order in which the content was dispatched; a unit that was placed before keeps its
	// place.
	Place(off, n int64) (host, placed int64, err error)
}

// Appender is a Writer of a format that holds each unit encoded.
type Appender interface {
	Writer
	// NewEncoder makes the state of one worker.
	NewEncoder() (Encoder, error)
	// Append adds what an Encoder made of the unit at off. It is called by one goroutine at a time, in the order in which the content was
	// dispatched, at most once for a unit. piece is not kept.
	Append(off int64, piece []byte) error
}

// Encoder turns one unit into what the file holds for it. It is used by one goroutine.
type Encoder interface {
	// Encode appends the stored form of plain, which is one unit, to dst.
	Encode(dst, plain []byte) ([]byte, error)
	// Wrap appends the stored form of a unit that exists as a raw deflate stream, and reports whether it could. plain is the unit's
	// content, or nil if nobody has inflated it.
	Wrap(dst, deflate, plain []byte) ([]byte, bool)
}

// Run is a piece of the virtual disk, in bytes.
type Run struct{ Off, Len int64 }

// Planner is a Writer that wants to know the disk's map before the content, to put its metadata first. Without a map (a forward-only
// source) Plan is not called and the metadata goes where there is room.
type Planner interface {
	// Plan is called once, before anything is placed. The runs are whole units that may hold data, ascending, merged.
	Plan(runs iter.Seq2[Run, error]) error
}

// CreateOptions says what to create. A format refuses what it cannot do; it never drops an option silently.
type CreateOptions struct {
	// VirtualSize is the disk's size in bytes. Formats that count sectors round it up to 512.
	VirtualSize int64
	// ClusterSize is the unit of allocation in bytes; 0 is the format's default.
	ClusterSize int64
	// Variant is the format's own word for a sub-format; empty is the format's default.
	Variant string
	// Compression is "", "zlib" or "zstd".
	Compression string
	// Level is the compression level, 1 (fastest) to 9; 0 is the default (6).
	Level int
	// SourceUnit is the size of the units in which compressed content arrives, or 0. A compressed format whose ClusterSize was left open
	// takes it over where it can, so that units need not be cut or joined.
	SourceUnit int64
	// ContentID names the content in formats that have such a field; the zero value is replaced by random bytes. Give one for output that
	// is the same each time.
	ContentID [16]byte
	// Name is the file name to put into formats that repeat it inside the file; empty is "disk" with the format's extension.
	Name string
}

// maxVirtualSize bounds disks that are written. No format comes near it; sums of offsets below it do not overflow.
const maxVirtualSize = 1 << 62

// RoundedSize returns VirtualSize rounded up to a whole number of sectors of 512 bytes.
func (o CreateOptions) RoundedSize() (int64, error) {
	const sector = 512
	if o.VirtualSize < 0 || o.VirtualSize > maxVirtualSize {
		return 0, Limitf("a disk of %d bytes cannot be written", o.VirtualSize)
	}
	return (o.VirtualSize + sector - 1) / sector * sector, nil
}

// CloneOutput is an Output that can share blocks with another file of its file system instead of copying them. Where that is not possible Clone returns an error
// and has changed nothing.
type CloneOutput interface {
	Output
	Clone(from *os.File, fromOff, toOff, n int64) error
}
