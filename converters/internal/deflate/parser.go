package deflate

import "math/bits"

const (
	// A token is a literal byte, or a match: bit 31, the distance's symbol from bit 23 on, the length less minMatch from bit 15 on, the distance less 1.
	tokenMatch  = 1 << 31
	tokenDist   = 23
	tokenLength = 15

	maxTokens   = 1 << 15
	chunkTokens = 1 << 10
	maxChunks   = maxTokens / chunkTokens
	maxSkip     = 32 // see parser.miss

	// overrun is how many tokens may come after a limit: a miss with its skip, a match, the block's tail.
	overrun = 1 + maxSkip + 1 + tail

	// tail is how many bytes at the end of a block no match begins in: finder.find needs four.
	tail = 4
)

// chunk is a run of tokens that will not be divided between deflate blocks.
type chunk struct {
	histogram
	tokens []uint32
	begin  int // of the content, in the block
	end    int
}

// histogram says how often symbols occur.
type histogram struct {
	lit  [maxLit]uint16
	dist [maxDist + 2]uint16 // 2 more for an index of five bits
}

// parser cuts a block into tokens.
type parser struct {
	effort  effort
	finder  finder
	pos     int
	lengths [256]uint8
	tokens  [maxTokens]uint32
	n       int // how many tokens there are
	chunks  [maxChunks]chunk
	misses  int // how many literals since the last match
}

// start takes up a new block.
func (p *parser) start(block []byte) {
	p.finder.start(block)
	p.pos, p.misses = 0, 0
}

// done says that the whole block has been parsed.
func (p *parser) done() bool { return p.pos == p.finder.fill && len(p.finder.rest) == 0 }

// parse returns the tokens of the next part of the block, at least one chunk. They are overwritten by the next call.
func (p *parser) parse() []chunk {
	p.pos = p.finder.slide(p.pos)
	p.n = 0
	last := p.finder.fill - tail
	if len(p.finder.rest) > 0 {
		last = p.finder.fill - lookahead/2
	}
	n := 0
	for more := true; more && n < maxChunks; n++ {
		c := &p.chunks[n]
		*c = chunk{begin: p.finder.begin + p.pos}
		first := p.n
		more = p.matches(&c.histogram, last, (n+1)*chunkTokens-overrun)
		if !more && len(p.finder.rest) == 0 {
			for ; p.pos < p.finder.fill; p.pos++ {
				p.literal(&c.histogram, p.finder.byte(p.pos))
			}
		}
		c.tokens, c.end = p.tokens[first:p.n], p.finder.begin+p.pos
	}
	return p.chunks[:n]
}

// matches makes tokens up to position last or until there are limit tokens. It reports whether last is still to come.
func (p *parser) matches(h *histogram, last, limit int) bool {
	f, e := &p.finder, p.effort
	pos, length, distance := p.pos, 0, 0
	for pos < last && p.n < limit {
		if distance == 0 {
			if length, distance = f.find(pos, minMatch-1, e.depth, e.nice); distance == 0 {
				pos = p.miss(h, pos, last)
				continue
			}
		}
		next := pos + 1
		if length < e.lazy && next < last {
			depth := e.depth / 2
			if length >= e.good {
				depth = e.depth / 4
			}
			if l, d := f.find(next, length-1, depth, e.nice); d != 0 && better(l, d, length, distance) {
				p.literal(h, f.byte(pos))
				pos, length, distance = next, l, d
				continue
			}
			next++
		}
		p.match(h, length, distance)
		pos += length
		distance = 0
		for stop := min(pos, last); next < stop; next++ {
			f.insert(next)
		}
	}
	if distance != 0 {
		p.match(h, length, distance)
		pos += length
	}
	p.pos = pos
	return pos < last
}

// better says whether a match is so much better than the one a byte before that the byte is worth a literal. A byte more is worth about four bits,
// and so much a distance may grow, which costs a bit for each doubling.
func better(length, distance, oldLength, oldDistance int) bool {
	return 4*(length-oldLength)+bits.Len(uint(oldDistance))-bits.Len(uint(distance)) > 2
}

// miss makes a position without a match a literal. After many of them the content is unlikely to compress: more and more positions are not tried.
func (p *parser) miss(h *histogram, pos, last int) int {
	p.misses++
	stop := min(pos+1+min(p.misses/256, maxSkip), last)
	for ; pos < stop; pos++ {
		p.literal(h, p.finder.byte(pos))
	}
	return pos
}

func (p *parser) literal(h *histogram, b byte) {
	p.tokens[p.n&(maxTokens-1)] = uint32(b)
	p.n++
	h.lit[b]++
}

func (p *parser) match(h *histogram, length, distance int) {
	p.misses = 0
	l, d := uint32(length-minMatch), uint32(distance-1)
	s := distSymbol(d)
	p.tokens[p.n&(maxTokens-1)] = tokenMatch | s<<tokenDist | l<<tokenLength | d
	p.n++
	h.lit[firstLength+int(p.lengths[l&255])]++
	h.dist[s&31]++
}
