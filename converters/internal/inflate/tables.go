package inflate

import "math/bits"

const (
	maxLit  = 286 // literals, end of block, lengths
	maxDist = 30

	litBits  = 11
	distBits = 8
	preBits  = 7
	maxBits  = 15

	// The largest number of entries that a table and its sub-tables take for any complete code of so many symbols, as computed by zlib's
	// "enough" program: 2342 for 288 symbols and 11 bits, 402 for 32 symbols and 8 bits.
	litTableSize  = 2342
	distTableSize = 402
	preTableSize  = 1 << preBits
)

// A table entry says what the next bits of the stream mean:
//
//	bits 0..7   how many bits to take: code and extra
//	bits 8..11  how many of them are the code; of a link, the number of index bits of the sub-table
//	bit  12     end of block
//	bit  13     no code begins with these bits
//	bit  14     link: the code is longer than the table's index; bits 16..30 are the first entry of the sub-table
//	bits 16..30 the literal, length or distance without extra bits
//	bit  31     literal
const (
	entryEnd     = 1 << 12
	entryInvalid = 1 << 13
	entryLink    = 1 << 14
	entryLiteral = 1 << 31
	entrySpecial = entryEnd | entryInvalid | entryLink
)

// build fills table, indexed by the next mainBits bits of the stream, for the canonical code with the given lengths. symbol returns the entry
// of a symbol without code length: value, flags and, in bits 0..7, the number of extra bits. It reports false for lengths that are no code:
// over-subscribed, or incomplete other than a single code of one bit or none at all.
func build(table []uint32, mainBits uint, lens []uint8, symbol *[288]uint32) bool {
	var count, next [maxBits + 2]int
	for _, n := range lens {
		count[n]++
	}
	count[0] = 0
	left, longest := 1, 0
	for n := 1; n <= maxBits; n++ {
		left = left<<1 - count[n]
		if left < 0 {
			return false
		}
		next[n+1] = next[n] + count[n]
		if count[n] > 0 {
			longest = n
		}
	}
	if left > 0 && longest > 1 {
		return false
	}
	var sorted [288]uint16
	for s, n := range lens {
		if n > 0 {
			sorted[next[n]] = uint16(s)
			next[n]++
		}
	}
	b := builder{table: table, mainBits: mainBits, symbol: symbol, count: &count}
	b.fill(sorted[:next[maxBits]], longest)
	return true
}

// builder is the state of build while codes are given out in ascending order.
type builder struct {
	table    []uint32
	mainBits uint
	symbol   *[288]uint32
	count    *[maxBits + 2]int
	code     uint32 // the next code, most significant bit first
	used     int    // entries of table in use by sub-tables
}

// fill gives codes to the sorted symbols. The main table is grown by doubling: entries for codes of n bits repeat every 1<<n.
func (b *builder) fill(sorted []uint16, longest int) {
	b.table[0] = entryInvalid | 1
	size := 1
	n := uint(1)
	for ; n <= b.mainBits; n++ {
		copy(b.table[size:2*size], b.table[:size])
		size *= 2
		b.code <<= 1
		for range b.count[n] {
			b.table[reverse(b.code, n)] = sized(b.symbol[sorted[0]], n)
			sorted = sorted[1:]
			b.code++
		}
	}
	b.used = size
	for ; n <= uint(longest); n++ {
		b.code <<= 1
		for i := range b.count[n] {
			b.long(sized(b.symbol[sorted[0]], n-b.mainBits), n, b.count[n]-i)
			sorted = sorted[1:]
			b.code++
		}
	}
}

// long enters a code of n > mainBits bits; rest is how many codes of this length are still to come, with this one.
func (b *builder) long(entry uint32, n uint, rest int) {
	rev := reverse(b.code, n)
	link := &b.table[rev&(1<<b.mainBits-1)]
	if *link&entryLink == 0 {
		subBits := b.subBits(n, rest)
		*link = entryLink | uint32(b.used)<<16 | uint32(subBits)<<8 | uint32(b.mainBits)
		b.used += 1 << subBits
	}
	start, size := int(*link>>16), 1<<(*link>>8&15)
	for i := int(rev >> b.mainBits); i < size; i += 1 << (n - b.mainBits) {
		b.table[start+i] = entry
	}
}

// subBits returns how many bits the sub-table needs whose first code has n bits: as many as it takes until the codes that follow fill it.
func (b *builder) subBits(n uint, rest int) uint {
	sub := n - b.mainBits
	for room := 1<<sub - rest; room > 0 && n < maxBits; {
		n++
		sub++
		room = room<<1 - b.count[n]
	}
	return sub
}

// sized puts the code length into a symbol's entry.
func sized(symbol uint32, n uint) uint32 { return symbol + uint32(n)<<8 + uint32(n) }

// reverse returns the n lowest bits of code in the order in which the stream has them.
func reverse(code uint32, n uint) uint32 { return bits.Reverse32(code) >> (32 - n) }

// litSymbols, distSymbols and preSymbols are what the symbols of the three alphabets mean (RFC 1951, 3.2.5).
var (
	litSymbols  = makeLitSymbols()
	distSymbols = makeDistSymbols()
	preSymbols  = makePreSymbols()
)

func makeLitSymbols() (t [288]uint32) {
	for s := range t {
		switch {
		case s < 256:
			t[s] = entryLiteral | uint32(s)<<16
		case s == 256:
			t[s] = entryEnd
		default:
			t[s] = entryInvalid
		}
	}
	length := uint32(3)
	for s := 257; s < 285; s++ {
		extra := uint32(max(0, (s-261)/4))
		t[s] = length<<16 | extra
		length += 1 << extra
	}
	t[285] = 258 << 16
	return t
}

func makeDistSymbols() (t [288]uint32) {
	for s := range t {
		t[s] = entryInvalid
	}
	dist := uint32(1)
	for s := range maxDist {
		extra := uint32(max(0, s/2-1))
		t[s] = dist<<16 | extra
		dist += 1 << extra
	}
	return t
}

func makePreSymbols() (t [288]uint32) {
	for s := range 19 {
		t[s] = uint32(s) << 16
	}
	return t
}

// useFixed makes the tables of the fixed code (RFC 1951, 3.2.6) unless they are there.
func (d *Decoder) useFixed() {
	if d.fixed {
		return
	}
	var lens [288]uint8
	for s := range lens {
		switch {
		case s < 144:
			lens[s] = 8
		case s < 256:
			lens[s] = 9
		case s < 280:
			lens[s] = 7
		default:
			lens[s] = 8
		}
	}
	build(d.lit[:], litBits, lens[:], &litSymbols)
	for s := range 32 {
		lens[s] = 5
	}
	build(d.dist[:], distBits, lens[:32], &distSymbols)
	d.fixed = true
}

// preOrder is the order of the code lengths of the code-length code.
var preOrder = [19]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}

// readCodes reads the codes of a dynamic block (RFC 1951, 3.2.7).
func (d *Decoder) readCodes() error {
	d.fixed = false
	head, err := d.bits(14)
	if err != nil {
		return err
	}
	nlit, ndist, npre := int(head&31)+257, int(head>>5&31)+1, int(head>>10)+4
	if nlit > maxLit || ndist > maxDist {
		return ErrCorrupt
	}
	var pre [19]uint8
	for _, s := range preOrder[:npre] {
		n, err := d.bits(3)
		if err != nil {
			return err
		}
		pre[s] = uint8(n)
	}
	if !build(d.pre[:], preBits, pre[:], &preSymbols) {
		return ErrCorrupt
	}
	if err := d.readLengths(d.lens[:nlit+ndist]); err != nil {
		return err
	}
	if !build(d.lit[:], litBits, d.lens[:nlit], &litSymbols) ||
		!build(d.dist[:], distBits, d.lens[nlit:nlit+ndist], &distSymbols) {
		return ErrCorrupt
	}
	return nil
}

// readLengths reads run-length coded code lengths.
func (d *Decoder) readLengths(lens []uint8) error {
	for i := 0; i < len(lens); {
		if d.n < 14 { // the longest code and its extra bits
			d.fill()
		}
		e := d.pre[d.hold&(1<<preBits-1)]
		if e&entryInvalid != 0 {
			return ErrCorrupt
		}
		if _, err := d.bits(uint(e & 0xff)); err != nil {
			return err
		}
		s := uint8(e >> 16)
		if s < 16 {
			lens[i] = s
			i++
			continue
		}
		if s == 16 && i == 0 {
			return ErrCorrupt
		}
		var value uint8
		extra, base := uint(3), uint(3)
		switch s {
		case 16:
			value, extra = lens[i-1], 2
		case 18:
			extra, base = 7, 11
		}
		n, err := d.bits(extra)
		if err != nil {
			return err
		}
		if n += base; n > uint(len(lens)-i) {
			return ErrCorrupt
		}
		for range n {
			lens[i] = value
			i++
		}
	}
	return nil
}
