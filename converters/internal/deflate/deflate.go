// Package deflate compresses single blocks with raw deflate (RFC 1951). It must not know an image format.
package deflate

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/klauspost/compress/flate"
)

// DefaultLevel is the level used for 0: zlib's own default.
const DefaultLevel = 6

// maxStored is the largest content of one stored block (RFC 1951, 3.2.4).
const maxStored = 65535

// Compressor compresses one block at a time. It is used by one goroutine.
type Compressor struct {
	level  int
	window int           // 0 is the format's 32 KiB
	w      *flate.Writer // made when it is first needed: it takes a MiB
	buf    bytes.Buffer
}

// NewCompressor makes a compressor of the given level: 1 (fastest) to 9, 0 for DefaultLevel.
func NewCompressor(level int) (*Compressor, error) {
	if level == 0 {
		level = DefaultLevel
	}
	if level < 1 || level > 9 {
		return nil, fmt.Errorf("compression level %d is not between 1 and 9", level)
	}
	return &Compressor{level: level}, nil
}

// MaxWindow is the distance deflate's references can have at most, in bytes.
const MaxWindow = 32 << 10

// NewWindowCompressor makes a compressor whose streams refer back at most window bytes, a power of two from 512 to MaxWindow, for readers that keep
// no more. Windows below MaxWindow have one level, about DefaultLevel: level must be 0.
func NewWindowCompressor(level, window int) (*Compressor, error) {
	switch {
	case window == MaxWindow:
		return NewCompressor(level)
	case window < 512 || window > MaxWindow || window&(window-1) != 0:
		return nil, fmt.Errorf("deflate window %d is not a power of two between 512 and %d", window, MaxWindow)
	case level != 0:
		return nil, fmt.Errorf("with a deflate window of %d there is no compression level to choose", window)
	}
	return &Compressor{window: window}, nil
}

// Append appends a complete deflate stream of p to dst. The stream is never longer than StoredSize(len(p)): content that does not compress
// is stored.
func (c *Compressor) Append(dst, p []byte) ([]byte, error) {
	if err := c.reset(); err != nil {
		return nil, err
	}
	if _, err := c.w.Write(p); err != nil {
		return nil, err
	}
	if err := c.w.Close(); err != nil {
		return nil, err
	}
	if c.buf.Len() > StoredSize(len(p)) {
		return AppendStored(dst, p), nil
	}
	return append(dst, c.buf.Bytes()...), nil
}

func (c *Compressor) reset() (err error) {
	c.buf.Reset()
	switch {
	case c.w != nil:
		c.w.Reset(&c.buf)
	case c.window != 0:
		c.w, err = flate.NewWriterWindow(&c.buf, c.window)
	default:
		c.w, err = flate.NewWriter(&c.buf, c.level)
	}
	return err
}

// StoredSize is the size of a stream that stores n bytes.
func StoredSize(n int) int { return n + 5*max(1, (n+maxStored-1)/maxStored) }

// AppendStored appends a complete deflate stream that holds p uncompressed.
func AppendStored(dst, p []byte) []byte {
	for {
		n := min(len(p), maxStored)
		var last byte
		if n == len(p) {
			last = 1
		}
		dst = append(dst, last)
		dst = binary.LittleEndian.AppendUint16(dst, uint16(n))
		dst = binary.LittleEndian.AppendUint16(dst, ^uint16(n))
		dst = append(dst, p[:n]...)
		if p = p[n:]; last == 1 {
			return dst
		}
	}
}
