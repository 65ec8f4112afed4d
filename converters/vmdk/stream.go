package vmdk

import (
	"bufio"
	"errors"
	"io"
	"sync"
	"sync/atomic"

	"github.com/hyperplane-project/hyperplane/converters/image"
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
		Format: "vmdk", Variant: "streamOptimized", VirtualSize: s.h.size(), FileSize: -1, ClusterSize: s.h.grain(), SectorSize: sectorSize,
		Compression: "zlib",
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
