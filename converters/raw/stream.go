package raw

import (
	"errors"
	"io"
	"sync"
	"sync/atomic"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// chunkSize is how much of a stream is handed on at once.
const chunkSize = 256 << 10

// stream reads a raw disk from front to back.
type stream struct {
	r    io.Reader
	size int64
	off  int64
	pool sync.Pool
	read atomic.Int64
}

var (
	_ image.Stream  = (*stream)(nil)
	_ image.Metered = (*stream)(nil)
)

// OpenStream reads size bytes of r as a raw disk. A raw stream does not say how long it is, so the size must be given.
func OpenStream(r io.Reader, size int64) (image.Stream, error) {
	if size < 0 {
		return nil, fault.New(fault.InvalidArgument, "raw: a stream does not say how large its disk is; give the size")
	}
	return &stream{r: r, size: size}, nil
}

// Info describes the disk. ClusterSize is the size of the chunks.
func (s *stream) Info() image.Info {
	return image.Info{Format: "raw", VirtualSize: s.size, FileSize: -1, ClusterSize: chunkSize}
}

// BytesRead returns how much of the stream was read.
func (s *stream) BytesRead() int64 { return s.read.Load() }

// Close does nothing: the caller owns the source.
func (s *stream) Close() error { return nil }

// Next returns the next chunk.
func (s *stream) Next() (image.Chunk, error) {
	if s.off == s.size {
		return image.Chunk{}, io.EOF
	}
	buf, _ := s.pool.Get().(*[chunkSize]byte)
	if buf == nil {
		buf = new([chunkSize]byte)
	}
	data := buf[:min(chunkSize, s.size-s.off)]
	n, err := io.ReadFull(s.r, data)
	s.read.Add(int64(n))
	if err != nil {
		s.pool.Put(buf)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return image.Chunk{}, image.Truncatedf("raw: the stream ends at offset %d of %d", s.off+int64(n), s.size)
		}
		return image.Chunk{}, fault.Wrap(err, "raw: read stream at offset %d", s.off+int64(n))
	}
	c := image.Chunk{
		Off: s.off, Len: n, Data: data,
		Decode:  func(dst []byte) error { copy(dst, data); return nil },
		Release: func() { s.pool.Put(buf) },
	}
	s.off += int64(n)
	return c, nil
}
