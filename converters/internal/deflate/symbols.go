package deflate

import "math/bits"

// The alphabets (RFC 1951, 3.2.5).
const (
	maxLit      = 286 // literals, end of block, lengths
	maxDist     = 30
	endOfBlock  = 256
	firstLength = 257
)

// lengthSymbols returns the symbols, less firstLength, of the match lengths, less minMatch.
func lengthSymbols() (t [256]uint8) {
	length := 0
	for s := range 28 {
		for range 1 << lengthExtra(s) {
			t[length] = uint8(s)
			length++
		}
	}
	t[maxMatch-minMatch] = 28
	return t
}

// lengthExtra returns how many extra bits follow a length symbol less firstLength: the lowest of the length less minMatch.
func lengthExtra(s int) uint {
	if s < 8 || s == 28 {
		return 0
	}
	return uint(s)/4 - 1
}

// distSymbol returns the symbol of a distance less 1: its highest two bits and how many follow.
func distSymbol(d uint32) uint32 {
	if d < 2 {
		return d
	}
	n := uint32(bits.Len32(d)) - 1
	return 2*n + d>>(n-1)&1
}

// distExtra returns how many extra bits follow a distance symbol: the lowest of the distance less 1.
func distExtra(s int) uint { return uint(max(0, s/2-1)) }

// fixedLength returns the code length of a literal or length in the fixed code (RFC 1951, 3.2.6).
func fixedLength(s int) uint8 {
	switch {
	case s < 144:
		return 8
	case s < 256:
		return 9
	case s < 280:
		return 7
	default:
		return 8
	}
}

// fixedDist is the code length of all distances in the fixed code.
const fixedDist = 5
