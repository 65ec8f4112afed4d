// Package bitset is a sparse set of numbers with a bound on its memory.
package bitset

const (
	// pageBits is how many numbers a page holds: a page is 4 KiB.
	pageBits = 32 << 10
	// maxPages bounds the set to 32 MiB: 2^28 numbers if they are dense.
	maxPages = 8 << 10
)

// Set is a set of non-negative numbers. The zero value is an empty set.
type Set struct {
	pages map[int64]*[pageBits / 64]uint64
}

// Add adds n and reports whether it was new. full says that n could not be added because the set has reached its bound.
func (s *Set) Add(n int64) (added, full bool) {
	if s.pages == nil {
		s.pages = map[int64]*[pageBits / 64]uint64{}
	}
	p := s.pages[n/pageBits]
	if p == nil {
		if len(s.pages) == maxPages {
			return false, true
		}
		p = new([pageBits / 64]uint64)
		s.pages[n/pageBits] = p
	}
	word, bit := &p[n%pageBits/64], uint64(1)<<(n%64)
	added = *word&bit == 0
	*word |= bit
	return added, false
}
