package deflate

import "math/bits"

const (
	minMatch = 3
	maxMatch = 258

	headBits  = 16
	head3Bits = 13
	prevMask  = MaxWindow - 1

	// A match of three bytes at a greater distance costs more than three literals.
	maxDistance3 = 4096
)

// finder finds earlier occurrences of the bytes at a position. Positions are kept modulo 64 KiB, twice the farthest distance: one that has become too
// old looks like another, and is then refused for its distance or because its bytes differ. So a block may be of any size, and an empty table is one
// whose entries are all 0, the first position.
type finder struct {
	source
	window int
	head   [1 << headBits]uint16  // the last position of a hash of four bytes
	head3  [1 << head3Bits]uint16 // the last position of a hash of three bytes
	prev   [MaxWindow]uint16      // the position before one, with the same hash of four bytes; only that of a position in a table is ever read
}

// start takes up a new block.
func (f *finder) start(p []byte) {
	f.load(p)
	clear(f.head[:])
	clear(f.head3[:])
}

func hash4(v uint32) uint32 { return v * 0x9e3779b1 >> (32 - headBits) }
func hash3(v uint32) uint32 { return v << 8 * 0x9e3779b1 >> (32 - head3Bits) }

// insert enters a position that at least four bytes follow.
func (f *finder) insert(pos int) {
	v := f.load32(pos)
	h, h3 := hash4(v), hash3(v)
	f.prev[pos&prevMask] = f.head[h]
	f.head[h] = uint16(pos)
	f.head3[h3] = uint16(pos)
}

// find enters a position that at least four bytes follow and returns the longest match there, if it is longer than length: otherwise the distance is 0.
// It looks at depth candidates, at a nice match no further.
func (f *finder) find(pos, length, depth, nice int) (int, int) {
	v := f.load32(pos)
	h, h3 := hash4(v), hash3(v)
	candidate, candidate3 := f.head[h], f.head3[h3]
	f.prev[pos&prevMask] = candidate
	f.head[h] = uint16(pos)
	f.head3[h3] = uint16(pos)

	// Distances are compared less 1, which makes 0, the position itself, the greatest.
	farthest := uint16(min(pos, f.window))
	distance := 0
	if length < minMatch {
		d := uint16(pos) - candidate3
		if d-1 < min(farthest, maxDistance3) && (f.load32(pos-int(d))^v)<<8 == 0 {
			length, distance = minMatch, int(d)
		}
	}
	d := uint16(pos) - candidate
	limit := min(f.fill-pos, maxMatch)
	best := max(length, minMatch)
	if d-1 >= farthest || best >= limit {
		return length, distance
	}
	// Only a candidate that also agrees in the last of best+1 bytes can be longer than best.
	tail := f.load32(pos + best - 3)
	for {
		at := pos - int(d)
		if f.load32(at+best-3) == tail && f.load32(at) == v {
			if n := f.extend(at, pos, limit); n > best {
				best, length, distance = n, n, int(d)
				if n >= nice || n == limit {
					break
				}
				tail = f.load32(pos + best - 3)
			}
		}
		if depth--; depth <= 0 {
			break
		}
		nearer := d
		d = uint16(pos) - f.prev[at&prevMask]
		if d <= nearer || d > farthest {
			break
		}
	}
	return length, distance
}

// extend returns how many bytes at the two positions are the same: at least the four that are known to be, at most limit.
func (f *finder) extend(at, pos, limit int) int {
	for n := 4; n < limit; n += 8 {
		if x := f.load64(at+n) ^ f.load64(pos+n); x != 0 {
			return min(n+bits.TrailingZeros64(x)>>3, limit)
		}
	}
	return limit
}
