package vmdk

import (
	"encoding/binary"
	"errors"
	"hash/adler32"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/internal/inflate"
	"github.com/hyperplane-project/hyperplane/converters/internal/prefetch"
)

const (
	zlibHeaderSize  = 2
	zlibTrailerSize = 4
	minRecord       = zlibHeaderSize + 1 + zlibTrailerSize
)

// maxRecord is the most compressed bytes a grain may have. Deflate grows content by a few bytes at most; QEMU reads up to twice the grain.
func (h *header) maxRecord() int64 { return 2 * h.grain() }

// deflateOf returns the raw deflate stream (and whatever follows it) inside a grain's zlib stream (RFC 1950).
func deflateOf(record []byte, off int64) ([]byte, error) {
	if len(record) < minRecord {
		return nil, image.Corruptf("vmdk: the grain at offset %d has %d compressed bytes, too few for a zlib stream", off, len(record))
	}
	const method, dictionary = 8, 1 << 5
	if record[0]&15 != method || record[1]&dictionary != 0 || binary.BigEndian.Uint16(record)%31 != 0 {
		return nil, image.Corruptf("vmdk: the grain at offset %d does not begin with a zlib header (% x)", off, record[:2])
	}
	return record[zlibHeaderSize : len(record)-zlibTrailerSize], nil
}

// decodeGrain inflates a grain's record into dst, which has room for a whole grain, and checks the checksum. need is how many bytes of the grain
// are inside the disk: some writers deflate only those of the last grain, others the whole grain.
func decodeGrain(d *inflate.Decoder, dst, record []byte, need int, off int64) error {
	stream, err := deflateOf(record, off)
	if err != nil {
		return err
	}
	n, used, err := d.Decode(dst, stream)
	switch {
	case errors.Is(err, inflate.ErrShortInput):
		return image.Truncatedf("vmdk: the grain at offset %d ends early", off)
	case err != nil:
		return image.Corruptf("vmdk: grain at offset %d: %v", off, err)
	case n < need:
		return image.Corruptf("vmdk: the grain at offset %d holds %d bytes, not %d", off, n, need)
	}
	sum := binary.BigEndian.Uint32(record[zlibHeaderSize+used:])
	if got := adler32.Checksum(dst[:n]); got != sum {
		return image.Corruptf("vmdk: the grain at offset %d has checksum %08x, not %08x", off, got, sum)
	}
	clear(dst[n:])
	return nil
}

// scratch is what one call needs to read compressed grains.
type scratch struct {
	ahead   prefetch.Buffer
	inflate inflate.Decoder
	plain   []byte
	hosts   []int64
}

func (e *sparse) getScratch() *scratch {
	if s, ok := e.scratch.Get().(*scratch); ok {
		return s
	}
	return &scratch{plain: make([]byte, e.grain)}
}

// each calls fn with the records of the grains that overlap [off, off+n).
func (e *sparse) each(s *scratch, off, n int64, fn func(grain int64, record []byte) error) error {
	first := off / e.grain * e.grain
	s.hosts = s.hosts[:0]
	for g := first; g < off+n; g += e.grain {
		table, err := e.table(g / e.cover())
		if err != nil {
			return err
		}
		host, err := e.host(table, g)
		if err != nil {
			return err
		}
		s.hosts = append(s.hosts, host)
	}
	for i := range s.hosts {
		g := first + int64(i)*e.grain
		record, err := e.record(s, s.hosts[i:], g)
		if err != nil {
			return err
		}
		if err := fn(g, record); err != nil {
			return err
		}
	}
	return nil
}

// record reads the record of the grain at off, which is at hosts[0] in the file; the others are probably asked for next.
func (e *sparse) record(s *scratch, hosts []int64, off int64) ([]byte, error) {
	host := hosts[0]
	ahead := e.reach(hosts)
	b, err := s.ahead.Bytes(e.f, host, grainMarkerSize, ahead)
	if err != nil {
		return nil, err
	}
	if len(b) < grainMarkerSize {
		return nil, image.Truncatedf("vmdk: the grain at offset %d is at offset %d, past the end of the file at %d", off, host, e.f.Size())
	}
	lba, size := binary.LittleEndian.Uint64(b), int64(binary.LittleEndian.Uint32(b[8:]))
	if want := uint64(off / sectorSize); lba != want {
		return nil, image.Corruptf("vmdk: the grain at file offset %d is for sector %d of the disk, its table says %d", host, lba, want)
	}
	if size == 0 || size > e.h.maxRecord() {
		return nil, image.Corruptf("vmdk: the grain at offset %d has %d compressed bytes, not 1 to %d", off, size, e.h.maxRecord())
	}
	b, err = s.ahead.Bytes(e.f, host+grainMarkerSize, int(size), ahead-grainMarkerSize)
	if err != nil {
		return nil, err
	}
	if int64(len(b)) < size {
		return nil, image.Truncatedf("vmdk: the grain at offset %d reaches past the end of the file at %d", off, e.f.Size())
	}
	return b, nil
}

const (
	// maxReach is how far apart the first and the last of the grains may be that are read together.
	maxReach = 1 << 20
	// maxGap is how far apart two neighbours may be.
	maxGap = 128 << 10
)

// reach returns how many bytes from the first offset on hold its grain and those that follow it closely. How long the last one is says only its
// marker; half a grain is a fair guess.
func (e *sparse) reach(hosts []int64) int64 {
	last := hosts[0]
	for _, h := range hosts[1:] {
		if h <= last || h-last > maxGap || h-hosts[0] > maxReach {
			break
		}
		last = h
	}
	return last - hosts[0] + e.grain/2
}

// ReadCompressed fills p from off; the range is inside one compressed extent.
func (e *sparse) ReadCompressed(p []byte, off int64) error {
	s := e.getScratch()
	defer e.scratch.Put(s)
	return e.each(s, off, int64(len(p)), func(grain int64, record []byte) error {
		if at := grain - off; at >= 0 && at+e.grain <= int64(len(p)) {
			return decodeGrain(&s.inflate, p[at:at+e.grain], record, int(e.grain), grain)
		}
		if err := decodeGrain(&s.inflate, s.plain, record, e.need(grain), grain); err != nil {
			return err
		}
		from := max(off, grain)
		copy(p[from-off:], s.plain[from-grain:])
		return nil
	})
}

// need returns how many bytes of the grain at off are inside the disk.
func (e *sparse) need(off int64) int { return int(min(e.grain, e.size-off)) }

// ReadChunks calls fn for the compressed grains of [off, off+n).
func (e *sparse) ReadChunks(off, n int64, fn func(image.Chunk) error) error {
	s := e.getScratch()
	defer e.scratch.Put(s)
	return e.each(s, off, n, func(grain int64, record []byte) error {
		c := image.Chunk{Off: grain, Len: e.need(grain), Data: record, Decode: func(dst []byte) error {
			if len(dst) >= len(s.plain) {
				return decodeGrain(&s.inflate, dst[:len(s.plain)], record, e.need(grain), grain)
			}
			if err := decodeGrain(&s.inflate, s.plain, record, e.need(grain), grain); err != nil {
				return err
			}
			copy(dst, s.plain)
			return nil
		}}
		if c.Len == len(s.plain) {
			var err error
			if c.Deflate, err = deflateOf(record, grain); err != nil {
				return err
			}
		}
		return fn(c)
	})
}
