// Package deflate compresses single blocks with raw deflate (RFC 1951). It must not know an image format.
//
// A block is in memory as a whole and not large. An encoder made for that need not be a stream's: it finds matches with hash chains as zlib does, cuts
// the result into deflate blocks where the statistics change, and so makes blocks about as small as zlib at the same level and more than twice as fast.
// The fastest levels are github.com/klauspost/compress/flate's.
package deflate

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/klauspost/compress/flate"
)

const (
	// DefaultLevel is the level used for 0: zlib's own default.
	DefaultLevel = 6

	// MaxWindow is the distance deflate's references can have at most, in bytes.
	MaxWindow = 32 << 10

	// maxStored is the largest content of one stored block (RFC 1951, 3.2.4).
	maxStored = 65535
)

// Compressor compresses one block at a time. It is used by one goroutine. Its output depends on the block alone, not on those before.
type Compressor struct {
	level   int
	window  int
	encoder *encoder // made when it is first needed, like fast: both take about a MiB
	fast    *flate.Writer
	buf     bytes.Buffer // of fast
}

// NewCompressor makes a compressor of the given level: 1 (fastest) to 9, 0 for DefaultLevel.
func NewCompressor(level int) (*Compressor, error) {
	if level == 0 {
		level = DefaultLevel
	}
	if level < 1 || level > 9 {
		return nil, fmt.Errorf("compression level %d is not between 1 and 9", level)
	}
	return &Compressor{level: level, window: MaxWindow}, nil
}

// NewWindowCompressor makes a compressor whose streams refer back at most window bytes, a power of two from 512 to MaxWindow, for readers that keep
// no more. Windows below MaxWindow have one level, DefaultLevel: level must be 0.
func NewWindowCompressor(level, window int) (*Compressor, error) {
	switch {
	case window == MaxWindow:
		return NewCompressor(level)
	case window < 512 || window > MaxWindow || window&(window-1) != 0:
		return nil, fmt.Errorf("deflate window %d is not a power of two between 512 and %d", window, MaxWindow)
	case level != 0:
		return nil, fmt.Errorf("with a deflate window of %d there is no compression level to choose", window)
	}
	return &Compressor{level: DefaultLevel, window: window}, nil
}

// Append appends a complete deflate stream of p to dst. The stream is never longer than StoredSize(len(p)): content that does not compress
// is stored.
func (c *Compressor) Append(dst, p []byte) ([]byte, error) {
	if c.level <= fastLevel {
		return c.appendFast(dst, p)
	}
	if c.encoder == nil {
		c.encoder = newEncoder(c.level, c.window)
	}
	start := len(dst)
	stream := c.encoder.append(dst, p)
	if len(stream)-start > StoredSize(len(p)) {
		return AppendStored(stream[:start], p), nil
	}
	return stream, nil
}

// appendFast is Append at a level where klauspost/compress is better.
func (c *Compressor) appendFast(dst, p []byte) (_ []byte, err error) {
	c.buf.Reset()
	if c.fast == nil {
		c.fast, err = flate.NewWriter(&c.buf, c.level)
	} else {
		c.fast.Reset(&c.buf)
	}
	if err != nil {
		return nil, err
	}
	if _, err := c.fast.Write(p); err != nil {
		return nil, err
	}
	if err := c.fast.Close(); err != nil {
		return nil, err
	}
	if c.buf.Len() > StoredSize(len(p)) {
		return AppendStored(dst, p), nil
	}
	return append(dst, c.buf.Bytes()...), nil
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
