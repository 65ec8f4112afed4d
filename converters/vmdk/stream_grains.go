package vmdk

import (
	"encoding/binary"
	"hash/adler32"
	"math"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/internal/deflate"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// maxOpenTables bounds the memory for grain tables that wait for late grains (2 KiB each).
const maxOpenTables = 4096

// zlib's two header bytes (RFC 1950): deflate with a 32 KiB window, default level, no dictionary.
const zlibHeader = "\x78\x9c"

// grainEncoder makes a grain's record: marker, zlib stream, padding to a sector. Append puts the grain's position into the marker.
type grainEncoder struct{ deflate *deflate.Compressor }

// NewEncoder makes the state of one worker.
func (s *streamWriter) NewEncoder() (image.Encoder, error) {
	d, err := deflate.NewCompressor(s.opts.Level)
	if err != nil {
		return nil, fault.As(fault.InvalidArgument, err, "vmdk")
	}
	return &grainEncoder{d}, nil
}

// Encode appends the record of a grain to dst.
func (e *grainEncoder) Encode(dst, plain []byte) ([]byte, error) {
	start := len(dst)
	dst = append(dst, make([]byte, grainMarkerSize)...)
	dst = append(dst, zlibHeader...)
	dst, err := e.deflate.Append(dst, plain)
	if err != nil {
		return nil, err
	}
	return seal(dst, start, plain), nil
}

// Wrap appends the record of a grain that is already deflated. The checksum needs the plain content.
func (e *grainEncoder) Wrap(dst []byte, c image.Chunk, plain []byte) ([]byte, bool) {
	stream := c.Deflate
	if stream == nil || plain == nil || len(stream) > deflate.StoredSize(len(plain)) {
		return dst, false
	}
	start := len(dst)
	dst = append(dst, make([]byte, grainMarkerSize)...)
	dst = append(dst, zlibHeader...)
	return seal(append(dst, stream...), start, plain), true
}

// seal adds the checksum, notes the size in the marker at start, and pads.
func seal(dst []byte, start int, plain []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, adler32.Checksum(plain))
	size := len(dst) - start - grainMarkerSize
	binary.LittleEndian.PutUint32(dst[start+8:], uint32(size))
	if tail := (len(dst) - start) % sectorSize; tail != 0 {
		dst = append(dst, make([]byte, sectorSize-tail)...)
	}
	return dst
}

// Append writes a grain's record.
func (s *streamWriter) Append(off int64, piece []byte) error {
	binary.LittleEndian.PutUint64(piece, uint64(off/sectorSize))
	return s.record(off, len(piece), func() error { return s.write(piece) })
}

// Restore takes note of a grain's record that is in the output already, and of the grain table that was written with it. Where the earlier run was given
// the map, Plan is called before.
func (s *streamWriter) Restore(off int64, size int) error {
	if size < sectorSize || size%sectorSize != 0 || off < 0 || off%s.opts.GrainSize != 0 || off/s.opts.GrainSize >= int64(len(s.dir))*entriesPerTable {
		return fault.New(fault.InvalidArgument, "vmdk: a record of %d bytes for the grain at offset %d cannot have been written", size, off)
	}
	s.restore = true
	defer func() { s.restore = false }()
	return s.record(off, size, func() error {
		s.sectors += int64(size / sectorSize)
		return nil
	})
}

// record enters a grain's record of size bytes into its table and has it written.
func (s *streamWriter) record(off int64, size int, write func() error) error {
	n := off / s.opts.GrainSize
	table, err := s.table(n / entriesPerTable)
	if err != nil {
		return err
	}
	entry := &table.entries[n%entriesPerTable]
	if *entry != 0 {
		return fault.New(fault.Internal, "vmdk: the grain at offset %d was written before", off)
	}
	if s.sectors+int64(size/sectorSize) > math.MaxUint32 {
		return image.Limitf("vmdk: the file would exceed 2 TiB, the most that 32-bit sector numbers can address")
	}
	*entry = uint32(s.sectors)
	table.used++
	if err := write(); err != nil {
		return err
	}
	if table.used == entriesPerTable {
		return s.flushTable(n / entriesPerTable)
	}
	return nil
}

// table returns the open grain table i and writes tables that have become complete.
func (s *streamWriter) table(i int64) (*openTable, error) {
	if t := s.tables[i]; t != nil {
		return t, nil
	}
	if s.dir[i] != 0 {
		return nil, image.Unsupportedf("vmdk: the source's content is too far out of order to be written as a stream; write another format first")
	}
	limit := maxOpenTables
	if s.ordered {
		limit = 1
	}
	for len(s.tables) >= limit {
		if err := s.flushOldest(); err != nil {
			return nil, err
		}
	}
	t := &openTable{}
	s.tables[i] = t
	s.oldest = min(s.oldest, i)
	return t, nil
}

func (s *streamWriter) flushOldest() error {
	for s.tables[s.oldest] == nil {
		s.oldest++
	}
	return s.flushTable(s.oldest)
}

// flushTable writes grain table i and notes its place in the directory.
func (s *streamWriter) flushTable(i int64) error {
	const sectors = entriesPerTable * 4 / sectorSize
	if err := s.write(marker{value: sectors, kind: markerTable}.encode()); err != nil {
		return err
	}
	s.dir[i] = uint32(s.sectors)
	b := make([]byte, 0, entriesPerTable*4)
	for _, e := range s.tables[i].entries {
		b = binary.LittleEndian.AppendUint32(b, e)
	}
	delete(s.tables, i)
	return s.write(b)
}

// Finish writes the tables that are left, the directory, the footer and the end marker.
func (s *streamWriter) Finish() error {
	for len(s.tables) > 0 {
		if err := s.flushOldest(); err != nil {
			return err
		}
	}
	directory := make([]byte, 0, len(s.dir)*4+sectorSize)
	for _, e := range s.dir {
		directory = binary.LittleEndian.AppendUint32(directory, e)
	}
	directory = directory[:(len(directory)+sectorSize-1)/sectorSize*sectorSize]
	if err := s.write(marker{value: uint64(len(directory) / sectorSize), kind: markerDirectory}.encode()); err != nil {
		return err
	}
	footer := s.head
	footer.directoryOffset = uint64(s.sectors)
	if err := s.write(directory); err != nil {
		return err
	}
	if s.sectors > math.MaxUint32 {
		return image.Limitf("vmdk: the file exceeds 2 TiB, the most that 32-bit sector numbers can address")
	}
	for _, b := range [][]byte{marker{value: 1, kind: markerFooter}.encode(), footer.encode(), marker{kind: markerEnd}.encode()} {
		if err := s.write(b); err != nil {
			return err
		}
	}
	if s.buffer == nil {
		return nil
	}
	return fault.Wrap(s.buffer.Flush(), "vmdk: write before offset %d", s.sectors*sectorSize)
}
