package deflate

import "encoding/binary"

// The types of blocks (RFC 1951, 3.2.3), behind the bit that says whether it is the last.
const (
	typeStored  = 0 << 1
	typeFixed   = 1 << 1
	typeDynamic = 2 << 1
)

// blockWriter writes tokens as deflate blocks.
type blockWriter struct {
	bits    bitWriter
	costs   costs
	builder codeBuilder
	lengths [256]uint8 // see lengthSymbols
	lit     code
	dist    code
	head    head
	match   [256]codeword // of a match length, with extra bits
}

// write writes the chunks. Neighbours become one block where that is estimated to be smaller.
func (w *blockWriter) write(chunks []chunk, plain []byte, final bool) {
	first := 0
	h := &chunks[0].histogram
	cost := w.costs.block(h, nil)
	for i := 1; i < len(chunks); i++ {
		next := &chunks[i].histogram
		both, alone := w.costs.block(h, next), w.costs.block(next, nil)
		if both < cost+alone {
			h.add(next)
			cost = both
			continue
		}
		w.block(h, chunks[first:i], plain, false)
		first, h, cost = i, next, alone
	}
	w.block(h, chunks[first:], plain, final)
}

// block writes a block of chunks that together have the symbols of h.
func (w *blockWriter) block(h *histogram, chunks []chunk, plain []byte, final bool) {
	plain = plain[chunks[0].begin:chunks[len(chunks)-1].end]
	h.lit[endOfBlock] = 1
	w.builder.build(&w.lit, h.lit[:], maxBits)
	w.builder.build(&w.dist, h.dist[:maxDist], maxBits)
	w.head.plan(&w.builder, &w.lit, &w.dist)

	dynamic, fixed := w.sizes(h)
	stored := 8*StoredSize(len(plain)) + 8
	w.bits.room(min(dynamic, fixed, stored))
	var last uint64
	if final {
		last = 1
	}
	switch {
	case stored < min(dynamic, fixed):
		w.stored(plain, last)
		return
	case fixed <= dynamic:
		w.bits.put(last|typeFixed, 3)
		w.useFixed()
	default:
		w.bits.put(last|typeDynamic, 3)
		w.head.write(&w.bits)
	}
	w.matchWords()
	for i := range chunks {
		w.tokens(chunks[i].tokens)
	}
	w.bits.symbol(w.lit.words[endOfBlock])
	w.bits.flush()
}

// sizes returns how many bits a block with the symbols of h takes with the codes that have been made for it, and with the fixed ones.
func (w *blockWriter) sizes(h *histogram) (dynamic, fixed int) {
	for s, f := range h.lit {
		dynamic += int(f) * int(w.lit.lens[s])
		fixed += int(f) * int(fixedLength(s))
	}
	extra := 3
	for s, f := range h.lit[firstLength:] {
		extra += int(f) * int(lengthExtra(s))
	}
	for s, f := range h.dist[:maxDist] {
		dynamic += int(f) * int(w.dist.lens[s])
		fixed += int(f) * fixedDist
		extra += int(f) * int(distExtra(s))
	}
	return dynamic + w.head.size + extra, fixed + extra
}

// stored writes plain as it is.
func (w *blockWriter) stored(plain []byte, last uint64) {
	b := &w.bits
	for more := true; more; {
		n := min(len(plain), maxStored)
		more = n < len(plain)
		if more {
			b.put(typeStored, 3)
		} else {
			b.put(last|typeStored, 3)
		}
		b.align()
		binary.LittleEndian.PutUint16(b.dst[b.off:], uint16(n))
		binary.LittleEndian.PutUint16(b.dst[b.off+2:], ^uint16(n))
		b.off += 4 + copy(b.dst[b.off+4:], plain[:n])
		plain = plain[n:]
	}
}

// useFixed makes lit and dist the fixed codes.
func (w *blockWriter) useFixed() {
	var count counts
	for s := range w.lit.lens {
		w.lit.lens[s] = fixedLength(s)
		count[fixedLength(s)]++
	}
	w.lit.assign(maxSymbols, &count)
	for s := range maxDist {
		w.dist.lens[s] = fixedDist
	}
	w.dist.assign(maxDist, &counts{fixedDist: 32})
}

// matchWords fills match for the code lit.
func (w *blockWriter) matchWords() {
	for l, s := range w.lengths {
		c := w.lit.words[firstLength+int(s)]
		extra := lengthExtra(int(s))
		w.match[l] = c + codeword(l&(1<<extra-1))<<c.length() + codeword(extra)<<24
	}
}

// tokens writes tokens with the codes lit and dist. It keeps the bit writer in variables. A token has at most 48 bits.
func (w *blockWriter) tokens(tokens []uint32) {
	b := w.bits
	for _, t := range tokens {
		b.flush()
		if t < tokenMatch {
			b.symbol(w.lit.words[t&255])
			continue
		}
		b.symbol(w.match[t>>tokenLength&255])
		s := t >> tokenDist & 31
		b.symbol(w.dist.words[s])
		if s >= 4 {
			n := uint(s/2 - 1)
			b.put(uint64(t)&(1<<n-1), n)
		}
	}
	b.flush()
	w.bits = b
}

// add adds what another histogram counts.
func (h *histogram) add(o *histogram) {
	for s, f := range o.lit {
		h.lit[s] += f
	}
	for s, f := range o.dist {
		h.dist[s] += f
	}
}
