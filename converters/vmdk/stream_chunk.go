package vmdk

import (
	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/internal/inflate"
)

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
