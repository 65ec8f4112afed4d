package vmdk

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"sync"
	"sync/atomic"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/internal/inflate"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// stream reads a streamOptimized disk from front to back. It trusts the markers while it reads and compares them with the grain tables as these come
// by: before the grains (QEMU's and open-vmdk's layout) or after them (VMware's).
type stream struct {
	r     *bufio.Reader
	h     *header
	info  image.Info
	pos   int64 // sectors read
	audit audit
	// footer is set once the footer has come by; ended once the end is verified, or err.
	footer *header
	err    error

	read     atomic.Int64
	buffers  sync.Pool // *[]byte
	decoders sync.Pool // *inflate.Decoder
}

var (
	_ image.Stream  = (*stream)(nil)
	_ image.Metered = (*stream)(nil)
)

// readBuffer is how much is read from the source at once.
const readBuffer = 256 << 10

// maxStreamTables bounds what is remembered of the grain tables until the end. 1 Mi tables of 64 KiB grains are 32 TiB.
const maxStreamTables = 1 << 20

// OpenStream reads a streamOptimized disk from r. The size is not needed. Other kinds of VMDK cannot be read forward only and are refused.
func OpenStream(r io.Reader, _ int64) (image.Stream, error) {
	s := &stream{r: bufio.NewReaderSize(r, readBuffer)}
	b, err := s.r.Peek(sectorSize)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fault.Wrap(err, "vmdk: read the stream's header")
	}
	if isDescriptor(b) {
		return nil, image.Referencef("vmdk: the stream is only the description of a disk whose content is in other files")
	}
	if s.h, err = parseHeader(b); err != nil {
		return nil, err
	}
	if !s.h.compressed() {
		return nil, image.Unsupportedf("vmdk: only streamOptimized disks can be read as a stream; this one is monolithicSparse and must be a file")
	}
	if n := s.h.directoryEntries(); n > maxStreamTables {
		return nil, image.Limitf("vmdk: a disk of %d bytes has %d grain tables, more than the %d that are read as a stream", s.h.size(), n, maxStreamTables)
	}
	s.info = image.Info{
		Format: "vmdk", Variant: "streamOptimized", VirtualSize: s.h.size(), FileSize: -1, ClusterSize: s.h.grain(), Compression: "zlib",
	}
	if err := s.front(); err != nil {
		return nil, err
	}
	return s, nil
}

// Info describes the disk.
func (s *stream) Info() image.Info { return s.info }

// BytesRead returns how much of the stream was consumed.
func (s *stream) BytesRead() int64 { return s.read.Load() }

// Close does nothing: the caller owns the source.
func (s *stream) Close() error { return nil }

// Next returns the next grain.
func (s *stream) Next() (image.Chunk, error) {
	if s.err != nil {
		return image.Chunk{}, s.err
	}
	c, err := s.next()
	s.err = err
	return c, err
}

// fill reads the next len(p) bytes; p is whole sectors.
func (s *stream) fill(p []byte) error {
	n, err := io.ReadFull(s.r, p)
	s.read.Add(int64(n))
	if err != nil {
		return s.readError(err)
	}
	s.pos += int64(len(p) / sectorSize)
	return nil
}

func (s *stream) readError(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return image.Truncatedf("vmdk: the stream ends at offset %d, before its end marker", s.read.Load())
	}
	return fault.Wrap(err, "vmdk: read stream at offset %d", s.read.Load())
}

// skip reads n sectors and drops them.
func (s *stream) skip(n uint64) error {
	// The number comes from the stream: only so much is skipped as is there.
	const step = 2048
	for n > 0 {
		k, err := s.r.Discard(int(min(n, step)) * sectorSize)
		s.read.Add(int64(k))
		if err != nil {
			return s.readError(err)
		}
		s.pos += int64(k / sectorSize)
		n -= uint64(k / sectorSize)
	}
	return nil
}

// next reads records until it has a grain.
func (s *stream) next() (image.Chunk, error) {
	var sector [sectorSize]byte
	for {
		if atEnd, err := s.atEnd(); atEnd || err != nil {
			return image.Chunk{}, err
		}
		if err := s.fill(sector[:]); err != nil {
			return image.Chunk{}, err
		}
		m := parseMarker(sector[:])
		if m.size > 0 {
			return s.grain(m, sector[:])
		}
		if err := s.metadata(m); err != nil {
			return image.Chunk{}, err
		}
	}
}

// atEnd handles the end of a stream without an end marker: QEMU writes none. Then the tables, which came first, tell whether the stream is whole.
func (s *stream) atEnd() (bool, error) {
	_, err := s.r.Peek(1)
	if !errors.Is(err, io.EOF) {
		return false, nil
	}
	if !s.tablesInFront() {
		return false, image.Truncatedf("vmdk: the stream ends at offset %d, before its end marker", s.pos*sectorSize)
	}
	if err := s.audit.finish(); err != nil {
		return false, err
	}
	return true, io.EOF
}

// grain reads the rest of a grain's record.
func (s *stream) grain(m marker, sector []byte) (image.Chunk, error) {
	at := (s.pos - 1) * sectorSize
	if int64(m.size) > s.h.maxRecord() {
		return image.Chunk{}, image.Corruptf("vmdk: the grain at offset %d of the stream has %d compressed bytes, more than %d", at, m.size, s.h.maxRecord())
	}
	if m.value >= s.h.capacity || m.value%s.h.grainSize != 0 {
		return image.Chunk{}, image.Corruptf("vmdk: the grain at offset %d of the stream is for sector %d, which is no grain of a disk of %d sectors",
			at, m.value, s.h.capacity)
	}
	if err := s.audit.grain(int64(m.value/s.h.grainSize), at/sectorSize); err != nil {
		return image.Chunk{}, err
	}
	buf := s.buffer(grainMarkerSize + int(m.size))
	n := copy(*buf, sector)
	if n < len(*buf) {
		if err := s.fill((*buf)[n:]); err != nil {
			s.buffers.Put(buf)
			return image.Chunk{}, err
		}
	}
	return s.chunk(int64(m.value)*sectorSize, buf, int(m.size))
}

// buffer returns a buffer for n bytes, rounded up to sectors.
func (s *stream) buffer(n int) *[]byte {
	n = (n + sectorSize - 1) / sectorSize * sectorSize
	buf, _ := s.buffers.Get().(*[]byte)
	if buf == nil {
		buf = new([]byte)
	}
	if cap(*buf) < n {
		*buf = make([]byte, n, (n+8191)/8192*8192)
	}
	*buf = (*buf)[:n]
	return buf
}

func (s *stream) chunk(off int64, buf *[]byte, size int) (image.Chunk, error) {
	record := (*buf)[grainMarkerSize : grainMarkerSize+size]
	deflate, err := deflateOf(record, off)
	if err != nil {
		s.buffers.Put(buf)
		return image.Chunk{}, err
	}
	c := image.Chunk{
		Off: off, Len: int(min(s.h.grain(), s.h.size()-off)), Data: record,
		Release: func() { s.buffers.Put(buf) },
	}
	c.Decode = func(dst []byte) error { return s.decode(dst[:c.Len], record, off) }
	if int64(c.Len) == s.h.grain() {
		c.Deflate = deflate
	}
	return c, nil
}

// decode inflates a record into dst, which is as long as the grain or, at the end of the disk, shorter.
func (s *stream) decode(dst, record []byte, off int64) error {
	d, _ := s.decoders.Get().(*inflate.Decoder)
	if d == nil {
		d = &inflate.Decoder{}
	}
	defer s.decoders.Put(d)
	if int64(len(dst)) == s.h.grain() {
		return decodeGrain(d, dst, record, len(dst), off)
	}
	whole := make([]byte, s.h.grain())
	if err := decodeGrain(d, whole, record, len(dst), off); err != nil {
		return err
	}
	copy(dst, whole)
	return nil
}

// metadata reads what follows a metadata marker.
func (s *stream) metadata(m marker) error {
	switch m.kind {
	case markerTable:
		return s.table(m)
	case markerDirectory:
		return s.directory(m)
	case markerFooter:
		return s.readFooter(m)
	case markerProgress:
		return s.skip(m.value)
	case markerEnd:
		return s.end(m)
	default:
		return image.Corruptf("vmdk: there is no record of kind %d (offset %d of the stream)", m.kind, (s.pos-1)*sectorSize)
	}
}

func (s *stream) table(m marker) error {
	if want := uint64(s.h.tableSize() / sectorSize); m.value != want {
		return image.Corruptf("vmdk: the grain table at offset %d of the stream has %d sectors, not %d", s.pos*sectorSize, m.value, want)
	}
	at := s.pos
	b := make([]byte, s.h.tableSize())
	if err := s.fill(b); err != nil {
		return err
	}
	return s.audit.table(at, b)
}

func (s *stream) directory(m marker) error {
	entries := s.h.directoryEntries()
	if want := uint64((entries*4 + sectorSize - 1) / sectorSize); m.value < want {
		return image.Corruptf("vmdk: the grain directory at offset %d of the stream has %d sectors, not %d", s.pos*sectorSize, m.value, want)
	}
	at := s.pos
	if err := s.readDirectory(entries); err != nil {
		return err
	}
	s.audit.directoryAt = at
	return s.skip(m.value - uint64(s.pos-at))
}

// readDirectory reads the grain directory, a sector at a time: its size is a claim of the header.
func (s *stream) readDirectory(entries int64) error {
	s.audit.directory = s.audit.directory[:0]
	var sector [sectorSize]byte
	for entries > 0 {
		if err := s.fill(sector[:]); err != nil {
			return err
		}
		for b := sector[:]; len(b) > 0 && entries > 0; b = b[4:] {
			s.audit.directory = append(s.audit.directory, binary.LittleEndian.Uint32(b))
			entries--
		}
	}
	return nil
}

func (s *stream) readFooter(m marker) error {
	if m.value != 1 {
		return image.Corruptf("vmdk: the footer at offset %d of the stream has %d sectors, not 1", s.pos*sectorSize, m.value)
	}
	var sector [sectorSize]byte
	if err := s.fill(sector[:]); err != nil {
		return err
	}
	footer, err := parseFooter(sector[:], s.h)
	s.footer = footer
	return err
}

// end verifies the whole stream at its end marker.
func (s *stream) end(m marker) error {
	if m.value != 0 {
		return image.Corruptf("vmdk: the end marker at offset %d of the stream claims %d sectors", (s.pos-1)*sectorSize, m.value)
	}
	said := s.h.directoryOffset
	if s.footer != nil {
		said = s.footer.directoryOffset
	}
	switch {
	case said == gdAtEnd:
		return image.Corruptf("vmdk: the stream has no footer before its end marker at offset %d", (s.pos-1)*sectorSize)
	case said != uint64(s.audit.directoryAt):
		return image.Corruptf("vmdk: the grain directory should be at sector %d, it was at %d", said, s.audit.directoryAt)
	}
	if err := s.audit.finish(); err != nil {
		return err
	}
	return io.EOF
}
