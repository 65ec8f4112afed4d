package deflate

// fastLevel is the last level at which klauspost/compress is the one to use. It is faster up to there. Its levels 5 and 6 are as fast as our 5 and make
// larger streams.
const fastLevel = 4

// effort says how hard to look for matches.
type effort struct {
	depth int // how many candidates to look at
	nice  int // a match of so many bytes is not improved
	lazy  int // after a match of fewer bytes the next position is tried, too: one that is better there makes the first byte a literal
	good  int // with a match of so many bytes, the next position is tried with a quarter of depth instead of half
}

// efforts returns the effort of a level above fastLevel.
func efforts(level int) effort {
	return [...]effort{
		5: {depth: 2, nice: 16},
		6: {depth: 4, nice: 20, lazy: 6, good: 5},
		7: {depth: 12, nice: 40, lazy: 24, good: 8},
		8: {depth: 48, nice: 130, lazy: 64, good: 12},
		9: {depth: 400, nice: maxMatch, lazy: maxMatch, good: 32},
	}[level]
}

// encoder makes deflate streams: the parser cuts a block into tokens, the writer writes them.
type encoder struct {
	parser parser
	writer blockWriter
}

func newEncoder(level, window int) *encoder {
	e := &encoder{}
	e.parser.effort = efforts(level)
	e.parser.finder.window = window
	e.parser.lengths = lengthSymbols()
	e.writer.lengths = e.parser.lengths
	e.writer.costs = newCosts()
	return e
}

// append appends a complete stream of p to dst.
func (e *encoder) append(dst, p []byte) []byte {
	e.writer.bits = bitWriter{dst: dst, off: len(dst)}
	e.parser.start(p)
	for final := false; !final; {
		chunks := e.parser.parse()
		final = e.parser.done()
		e.writer.write(chunks, p, final)
	}
	e.writer.bits.align()
	stream := e.writer.bits.dst[:e.writer.bits.off]
	e.writer.bits.dst = nil
	return stream
}
