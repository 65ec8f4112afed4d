package deflate

import "encoding/binary"

const (
	bufSize = 1 << 17
	bufMask = bufSize - 1

	// lookahead is how much of the block is in the buffer behind a position that is parsed, unless the block ends: a match, one at the next position,
	// and some literals.
	lookahead = 1 << 10
)

// source is the block, or the part of a larger one in which the parser works. That is an array so that a load needs no bounds check: the compiler sees
// that a masked index is inside. Positions count from the start of buf; the mask never changes one.
type source struct {
	buf   [bufSize + 8]byte
	fill  int    // end of the content
	begin int    // where in the block the content starts
	rest  []byte // what follows the content
}

func (s *source) byte(i int) byte     { return s.buf[i&bufMask] }
func (s *source) load32(i int) uint32 { return binary.LittleEndian.Uint32(s.buf[i&bufMask:]) }
func (s *source) load64(i int) uint64 { return binary.LittleEndian.Uint64(s.buf[i&bufMask:]) }

// load takes up a new block.
func (s *source) load(p []byte) {
	s.fill = copy(s.buf[:bufSize], p)
	s.begin, s.rest = 0, p[s.fill:]
}

// slide makes room once pos is near the end of the content, and returns where pos is then. It moves the content by 64 KiB, which leaves positions
// modulo 64 KiB as they are.
func (s *source) slide(pos int) int {
	const half = bufSize / 2
	if pos < s.fill-lookahead || len(s.rest) == 0 {
		return pos
	}
	copy(s.buf[:half], s.buf[half:bufSize])
	n := copy(s.buf[half:bufSize], s.rest)
	s.fill = half + n
	s.begin += half
	s.rest = s.rest[n:]
	return pos - half
}
