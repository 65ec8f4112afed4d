package image

import (
	"io"
	"iter"
	"os"
	"slices"
	"strings"
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

// Restorer is an Appender whose unfinished output another run can take up.
type Restorer interface {
	Appender
	// Restore takes note of a piece of size bytes that an earlier run has appended for the unit at off and that is in the output already. It is
	// called before anything is appended, in the order of the earlier run, with the same options.
	Restore(off int64, size int) error
}

// Crowded is an Appender whose Encoders have so much state that more of them than there are processors spoil each other's caches.
type Crowded interface {
	Appender
	// Crowded reports whether that is so for the chosen compression.
	Crowded() bool
}

// Zeroer is a Writer of a format that can say "zeros here, whatever the backing file has".
type Zeroer interface {
	Writer
	// PlaceZeros makes the units of [off, off+n) read as zeros. It is called like Place or Append, for units that have no content.
	PlaceZeros(off, n int64) error
}

// Redirector is a Placer whose content does not go into the Output it was created with: an image of several files. The offsets that Place
// returns are offsets in Content, which can clone (CloneOutput) where its files can. Its Truncate(0) empties the files.
type Redirector interface {
	Placer
	Content() Output
}

// Encoder turns one unit into what the file holds for it. It is used by one goroutine.
type Encoder interface {
	// Encode appends the stored form of plain, which is one unit, to dst.
	Encode(dst, plain []byte) ([]byte, error)
	// Wrap appends the stored form of a unit that exists as a compressed stream (c.Deflate or c.Zstd), and reports whether it could. plain
	// is the unit's content, or nil if nobody has inflated it.
	Wrap(dst []byte, c Chunk, plain []byte) ([]byte, bool)
}

// Run is a piece of the virtual disk, in bytes.
type Run struct{ Off, Len int64 }

// Planner is a Writer that wants to know the disk's map before the content, to put its metadata first. Without a map (a forward-only
// source) Plan is not called and the metadata goes where there is room.
type Planner interface {
	// Plan is called once, before anything is placed. The runs are whole units that may hold data, ascending, merged. They may be walked more
	// than once.
	Plan(runs iter.Seq2[Run, error]) error
}

// Forwarder is a Writer that can write its file from the first byte to the last, so that the output may be a pipe or an upload.
//
// Forward is called before Plan. From then on the output is written at ascending offsets only and never read. A Planner writes in Plan all
// that precedes the content and in Finish only what follows it; Place is then called for every unit of every run of the plan, in order, zeros
// or not, and the source has a map. An error says why this variant cannot.
type Forwarder interface {
	Writer
	Forward() error
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
	// Level is the compression level, 1 (fastest) to 9; 0 is the default of the format.
	Level int
	// SourceUnit is the size of the units in which compressed content arrives, or 0. A compressed format whose ClusterSize was left open
	// takes it over where it can, so that units need not be cut or joined.
	SourceUnit int64
	// ContentID names the content in formats that have such a field; the zero value is replaced by random bytes. Give one for output that
	// is the same each time.
	ContentID [16]byte
	// Name is the file name to put into formats that repeat it inside the file; empty is "disk" with the format's extension.
	Name string
	// Sibling makes another file of the image beside the first, for variants of several files. name is derived from Name. nil refuses such
	// variants.
	Sibling func(name string) (Output, error)
	// Backing makes an image of differences; nil is an image that stands alone.
	Backing *Backing
	// Window bounds the distance of deflate's references in bytes, a power of two from 512 to 32768; 0 is 32768. qemu-img writes qcow2 with 4096.
	Window int
}

// Backing is the image that another one is based on.
type Backing struct {
	// Name is what the new image calls it, Format its format in Hyperplane's word.
	Name, Format string
}

// Abilities are the options a format, or one of its variants, can honour.
type Abilities struct {
	// Variants and Compressions are the words that may be given besides none.
	Variants, Compressions    []string
	Clusters, Backing, Window bool
}

// Check refuses options that the named format does not have.
func (o CreateOptions) Check(format string, can Abilities) error {
	switch {
	case o.Variant != "" && !slices.Contains(can.Variants, o.Variant):
		return Unsupportedf("%s: there is no variant %q to write%s", format, o.Variant, choices(can.Variants))
	case o.Compression != "" && !slices.Contains(can.Compressions, o.Compression):
		return Unsupportedf("%s: there is no compression %q here%s", format, o.Compression, choices(can.Compressions))
	case o.ClusterSize != 0 && !can.Clusters:
		return Unsupportedf("%s: there is no cluster size to choose", format)
	case o.Backing != nil && !can.Backing:
		return Unsupportedf("%s: an image of differences is not written", format)
	case o.Window != 0 && !can.Window:
		return Unsupportedf("%s: there is no deflate window to choose", format)
	}
	return nil
}

func choices(words []string) string {
	if len(words) == 0 {
		return ""
	}
	return "; there is " + strings.Join(words, ", ")
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
