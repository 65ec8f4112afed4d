package deflate

import (
	"encoding/binary"
	"slices"
)

// bitWriter writes bits, the lowest first (RFC 1951, 3.1.1), where room has been made for them.
type bitWriter struct {
	dst  []byte // what is written ends at off
	off  int
	hold uint64 // bits that are not written yet, and zeros
	n    uint   // how many they are
}

// room makes room for so many bits and what flush may write behind them.
func (w *bitWriter) room(bits int) {
	if size := bits/8 + 24; len(w.dst)-w.off < size {
		w.dst = slices.Grow(w.dst[:w.off], size)
		w.dst = w.dst[:cap(w.dst)]
	}
}

// put adds the n bits of v. There may be 64 between two calls of flush, which itself leaves up to 7.
func (w *bitWriter) put(v uint64, n uint) {
	w.hold |= v << (w.n & 63)
	w.n += n
}

// symbol adds the code of a symbol.
func (w *bitWriter) symbol(c codeword) { w.put(c.bits(), c.length()) }

// flush writes whole bytes.
func (w *bitWriter) flush() {
	binary.LittleEndian.PutUint64(w.dst[w.off:], w.hold)
	w.off += int(w.n >> 3)
	w.hold >>= w.n & 56
	w.n &= 7
}

// align fills the last byte up with zeros and writes all.
func (w *bitWriter) align() {
	w.n = (w.n + 7) &^ 7
	w.flush()
}
