package deflate

const (
	maxPre = 19

	// The symbols for runs of code lengths (RFC 1951, 3.2.7).
	repeatLast  = 16 // 3 to 6 times the length before
	repeatZero  = 17 // 3 to 10 zeros
	repeatZeros = 18 // 11 to 138 zeros
)

// head is what a dynamic block says about its codes (RFC 1951, 3.2.7).
type head struct {
	lens  [maxLit + maxDist]uint8
	items []uint16 // code-length symbols; from bit 5 on the extra bits
	freq  [maxPre]uint16
	pre   code
	nlit  int
	ndist int
	npre  int
	size  int // bits
}

// preOrder is the order of the code lengths of the code-length code.
func preOrder() [maxPre]uint8 {
	return [maxPre]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}
}

// preExtra returns how many extra bits follow a code-length symbol.
func preExtra(s uint16) uint {
	switch s {
	case repeatLast:
		return 2
	case repeatZero:
		return 3
	case repeatZeros:
		return 7
	default:
		return 0
	}
}

// plan makes the head for two codes.
func (h *head) plan(b *codeBuilder, lit, dist *code) {
	h.nlit = maxLit
	for h.nlit > firstLength && lit.lens[h.nlit-1] == 0 {
		h.nlit--
	}
	h.ndist = maxDist
	for h.ndist > 1 && dist.lens[h.ndist-1] == 0 {
		h.ndist--
	}
	lens := append(append(h.lens[:0], lit.lens[:h.nlit]...), dist.lens[:h.ndist]...)
	h.items, h.freq = h.items[:0], [maxPre]uint16{}
	for len(lens) > 0 {
		n := 1
		for n < len(lens) && lens[n] == lens[0] {
			n++
		}
		h.run(uint16(lens[0]), n)
		lens = lens[n:]
	}
	b.build(&h.pre, h.freq[:], maxPreBits)
	order := preOrder()
	h.npre = maxPre
	for h.npre > 4 && h.pre.lens[order[h.npre-1]] == 0 {
		h.npre--
	}
	h.size = 14 + 3*h.npre
	for s, f := range h.freq {
		h.size += int(f) * (int(h.pre.lens[s]) + int(preExtra(uint16(s))))
	}
}

// run adds n times the same code length.
func (h *head) run(length uint16, n int) {
	if length != 0 {
		h.item(length)
		n--
	}
	for n >= 3 {
		var take int
		switch {
		case length != 0:
			take = min(n, 6)
			h.item(uint16(repeatLast | (take-3)<<5))
		case n <= 10:
			take = n
			h.item(uint16(repeatZero | (take-3)<<5))
		default:
			take = min(n, 138)
			h.item(uint16(repeatZeros | (take-11)<<5))
		}
		n -= take
	}
	for range n {
		h.item(length)
	}
}

func (h *head) item(x uint16) {
	h.items = append(h.items, x)
	h.freq[x&31]++
}

// write writes the head.
func (h *head) write(w *bitWriter) {
	w.put(uint64(h.nlit-firstLength|(h.ndist-1)<<5|(h.npre-4)<<10), 14)
	order := preOrder()
	for _, s := range order[:h.npre] {
		w.flush()
		w.put(uint64(h.pre.lens[s]), 3)
	}
	for _, x := range h.items {
		w.flush()
		w.symbol(h.pre.words[x&31])
		w.put(uint64(x>>5), preExtra(x&31))
	}
	w.flush()
}
