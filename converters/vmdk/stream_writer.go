package vmdk

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/binary"
	"io"
	"iter"
	"math"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/internal/engine"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

const (
	// defaultGrain is the grain size VMware writes, in bytes; minGrain and maxGrain are what its reader accepts of a stream.
	defaultGrain = 64 << 10
	minGrain     = 4 << 10
	maxGrain     = 64 << 10
	// overheadSectors is where the grains begin; the descriptor lies before them.
	overheadSectors   = 128
	descriptorSectors = 20
	// maxDirectory bounds the grain directory: 4 Mi entries are 128 TiB of 64 KiB grains.
	maxDirectory = 4 << 20
	writeBuffer  = 1 << 20
)

// StreamOptions says how a streamOptimized file is written. The zero value is good.
type StreamOptions struct {
	// Level is the deflate level, 1 (fastest) to 9; 0 is 6.
	Level int
	// Workers is the number of goroutines that compress; 0 is what suits the number of processors.
	Workers int
	// ContentID becomes the descriptor's longContentID; its last four bytes are the CID. The zero value is replaced by random bytes.
	// Give one for output that is the same each time.
	ContentID [16]byte
	// Name is the file name the descriptor states; readers use the file itself whatever it says. Empty is "disk.vmdk".
	Name string
	// AdapterType is the controller the descriptor states: lsilogic (the default), buslogic, ide or legacyESX.
	AdapterType string
	// HWVersion is the virtual hardware version the descriptor states; 0 is 4, which every VMware product accepts.
	HWVersion int
	// GrainSize is the unit of compression in bytes, a power of two from 4 KiB to 64 KiB; 0 is 64 KiB, the only size every reader accepts.
	GrainSize int64
}

func (o *StreamOptions) setDefaults() error {
	if o.GrainSize == 0 {
		o.GrainSize = defaultGrain
	}
	if o.GrainSize < minGrain || o.GrainSize > maxGrain || o.GrainSize&(o.GrainSize-1) != 0 {
		return fault.New(fault.InvalidArgument, "grain size %d is not a power of two between %d and %d", o.GrainSize, minGrain, maxGrain)
	}
	if o.Name == "" {
		o.Name = "disk.vmdk"
	}
	if o.AdapterType == "" {
		o.AdapterType = "lsilogic"
	}
	if o.HWVersion == 0 {
		o.HWVersion = 4
	}
	if o.ContentID == ([16]byte{}) {
		// crypto/rand.Read never fails.
		_, _ = rand.Read(o.ContentID[:])
	}
	// A CID of all ones means "no parent", the one below it "no CID": a disk of its own has neither.
	if binary.BigEndian.Uint32(o.ContentID[12:]) >= math.MaxUint32-1 {
		o.ContentID[15] = 0
	}
	return nil
}

// WriteStream writes the whole of src to w as a streamOptimized disk, front to back: w may be a pipe or a network connection. Grains of zeros
// and holes are left out. It is cancelled by ctx between two pieces of work; a Write of w that blocks is the caller's to end.
func WriteStream(ctx context.Context, w io.Writer, src image.Reader, opts StreamOptions) error {
	s, err := newStreamWriter(engine.NewForward(w), src.Info().VirtualSize, opts)
	if err != nil {
		return err
	}
	if err := s.Forward(); err != nil {
		return err
	}
	if err := engine.Copy(ctx, src, s, nil, engine.Options{Workers: opts.Workers}); err != nil {
		return err
	}
	return s.Finish()
}

// streamWriter lays out a streamOptimized file in the order of VMware's tools: header, descriptor, grains with each grain table after its
// grains, grain directory, footer, end marker.
type streamWriter struct {
	out     image.Output
	buffer  *bufio.Writer // collects what goes to out; nil unless the output is written front to back
	restore bool          // what is written is in the output already
	sectors int64         // written so far
	opts    StreamOptions
	head    header
	ordered bool                 // grains come in ascending order
	tables  map[int64]*openTable // grain tables not yet written
	oldest  int64                // no table below this one can still be open
	dir     []uint32             // sector of each grain table
}

// openTable is a grain table that may still get entries.
type openTable struct {
	entries [entriesPerTable]uint32
	used    int
}

var (
	_ image.Restorer  = (*streamWriter)(nil)
	_ image.Planner   = (*streamWriter)(nil)
	_ image.Forwarder = (*streamWriter)(nil)
)

func newStreamWriter(out image.Output, size int64, opts StreamOptions) (*streamWriter, error) {
	if err := opts.setDefaults(); err != nil {
		return nil, err
	}
	grain := uint64(opts.GrainSize / sectorSize)
	rounded, err := image.CreateOptions{VirtualSize: size}.RoundedSize()
	if err != nil {
		return nil, err
	}
	capacity := uint64(rounded / sectorSize)
	cover := grain * entriesPerTable
	tables := (capacity + cover - 1) / cover
	if tables > maxDirectory {
		return nil, image.Limitf("vmdk: a disk of %d bytes needs a grain directory of %d entries, more than %d", size, tables, maxDirectory)
	}
	s := &streamWriter{
		out: out, opts: opts,
		tables: map[int64]*openTable{}, dir: make([]uint32, tables),
		head: header{
			version: 3, // ESXi refuses streams of a lower version
			flags:   flagNewline | flagCompressed | flagMarkers, capacity: capacity, grainSize: grain,
			descriptorOffset: 1, descriptorSize: descriptorSectors, tableEntries: entriesPerTable, directoryOffset: gdAtEnd,
			overhead: overheadSectors, newline: newlineBytes, compression: compressDeflate,
		},
	}
	return s, s.start()
}

// start writes what precedes the grains.
func (s *streamWriter) start() error {
	text, err := embed(streamOptimized, s.head.capacity, s.opts)
	if err != nil {
		return err
	}
	front := make([]byte, overheadSectors*sectorSize)
	copy(front, s.head.encode())
	copy(front[sectorSize:], text)
	return s.write(front)
}

// write appends whole sectors.
func (s *streamWriter) write(p []byte) (err error) {
	switch {
	case s.restore:
	case s.buffer != nil:
		_, err = s.buffer.Write(p)
	default:
		_, err = s.out.WriteAt(p, s.sectors*sectorSize)
	}
	if err != nil {
		return fault.Wrap(err, "vmdk: write at offset %d", s.sectors*sectorSize)
	}
	s.sectors += int64(len(p) / sectorSize)
	return nil
}

// Unit returns the grain size.
func (s *streamWriter) Unit() int64 { return s.opts.GrainSize }

// Forward lets small writes be collected: the file is always written from front to back, but only such an output need not have each grain at once.
func (s *streamWriter) Forward() error {
	s.buffer = bufio.NewWriterSize(io.NewOffsetWriter(s.out, s.sectors*sectorSize), writeBuffer)
	return nil
}

// Plan notes that the content comes in ascending order, so a grain table is complete as soon as a later one gets an entry.
func (s *streamWriter) Plan(iter.Seq2[image.Run, error]) error {
	s.ordered = true
	return nil
}
