package converters

import (
	"bytes"
	"context"

	"github.com/hyperplane-project/hyperplane/converters/image"
)

// Compare returns the offset of the first byte in which two disks differ, or -1 if they hold the same. A disk that is longer than the other equals it if the
// rest of it is zeros: formats that count sectors round sizes up.
func Compare(ctx context.Context, a, b image.Reader) (int64, error) {
	c := comparison{a: side{r: a, size: a.Info().VirtualSize, buf: make([]byte, step)}, b: side{r: b, size: b.Info().VirtualSize, buf: make([]byte, step)}}
	for off, size := int64(0), max(c.a.size, c.b.size); off < size; {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		n, diff, err := c.piece(off)
		if err != nil || diff >= 0 {
			return diff, err
		}
		off += n
	}
	return -1, nil
}

type comparison struct{ a, b side }

// side is one of the disks compared, followed by endless zeros.
type side struct {
	r    image.Reader
	size int64
	buf  []byte
	ext  image.Extent // the extent looked up last
}

// at returns the extent at off, at most up to the end of the disk.
func (s *side) at(off int64) (image.Extent, error) {
	const endless = 1 << 62
	if off >= s.size {
		return image.Extent{Off: off, Len: endless, Kind: image.Hole}, nil
	}
	if off < s.ext.Off || off >= s.ext.Off+s.ext.Len {
		e, err := s.r.NextExtent(off)
		if err != nil {
			return e, err
		}
		s.ext = e
	}
	e := s.ext
	e.Len -= off - e.Off
	e.Off = off
	return e, nil
}

// read returns n bytes at off.
func (s *side) read(e image.Extent, n int64) ([]byte, error) {
	p := s.buf[:n]
	if e.Kind != image.Data {
		clear(p)
		return p, nil
	}
	return p, readAt(s.r, p, e.Off)
}

// piece compares a piece that is of one kind on either side. It returns the piece's length and the offset of the first difference, or -1.
func (c *comparison) piece(off int64) (n, diff int64, err error) {
	ea, err := c.a.at(off)
	if err != nil {
		return 0, 0, err
	}
	eb, err := c.b.at(off)
	if err != nil {
		return 0, 0, err
	}
	n = min(ea.Len, eb.Len)
	if ea.Kind != image.Data && eb.Kind != image.Data {
		return n, -1, nil
	}
	n = min(n, step)
	pa, err := c.a.read(ea, n)
	if err != nil {
		return 0, 0, err
	}
	pb, err := c.b.read(eb, n)
	if err != nil {
		return 0, 0, err
	}
	if bytes.Equal(pa, pb) {
		return n, -1, nil
	}
	for i := range pa {
		if pa[i] != pb[i] {
			return n, off + int64(i), nil
		}
	}
	return n, -1, nil
}
