package deflate_test

import (
	"fmt"
	"testing"

	"github.com/hyperplane-project/hyperplane/converters/internal/deflate"
)

// walker reads the distances of a stream that is known to be good, bit by bit (RFC 1951, 3.2).
type walker struct {
	p   []byte
	pos int // in bits
}

func (w *walker) bits(n int) (v int) {
	for i := range n {
		v |= int(w.p[w.pos/8]>>(w.pos%8)&1) << i
		w.pos++
	}
	return v
}

// canonical gives out the codes for the given lengths: symbols by length and code.
func canonical(lens []int) map[[2]int]int {
	symbols := map[[2]int]int{}
	code := 0
	for n := 1; n <= 15; n++ {
		for s, length := range lens {
			if length == n {
				symbols[[2]int{n, code}] = s
				code++
			}
		}
		code <<= 1
	}
	return symbols
}

// symbol reads a symbol.
func (w *walker) symbol(symbols map[[2]int]int) int {
	code := 0
	for n := 1; n <= 15; n++ {
		code = code<<1 | w.bits(1)
		if s, ok := symbols[[2]int{n, code}]; ok {
			return s
		}
	}
	panic("no such code")
}

// codes reads the codes of a block of type 1 or 2.
func (w *walker) codes(kind int) (lit, dist map[[2]int]int) {
	var lens []int
	if kind == 1 {
		for s := range 288 {
			switch {
			case s < 144, s >= 280:
				lens = append(lens, 8)
			case s < 256:
				lens = append(lens, 9)
			default:
				lens = append(lens, 7)
			}
		}
		for range 30 {
			lens = append(lens, 5)
		}
		return canonical(lens[:288]), canonical(lens[288:])
	}
	nlit, ndist, npre := w.bits(5)+257, w.bits(5)+1, w.bits(4)+4
	pre := make([]int, 19)
	for _, s := range []int{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}[:npre] {
		pre[s] = w.bits(3)
	}
	lengths := canonical(pre)
	for len(lens) < nlit+ndist {
		s, n, v := w.symbol(lengths), 1, 0
		switch s {
		case 16:
			n, v = 3+w.bits(2), lens[len(lens)-1]
		case 17:
			n = 3 + w.bits(3)
		case 18:
			n = 11 + w.bits(7)
		default:
			v = s
		}
		for range n {
			lens = append(lens, v)
		}
	}
	return canonical(lens[:nlit]), canonical(lens[nlit:])
}

// farthest returns the greatest distance in a stream.
func farthest(tb testing.TB, stream []byte) (distance int) {
	tb.Helper()
	w := &walker{p: stream}
	for last := 0; last == 0; {
		last = w.bits(1)
		kind := w.bits(2)
		if kind == 0 {
			w.pos = (w.pos + 7) &^ 7
			n := w.bits(16)
			w.pos += 16 + 8*n
			continue
		}
		lit, dist := w.codes(kind)
		for {
			s := w.symbol(lit)
			if s == 256 {
				break
			}
			if s < 256 {
				continue
			}
			if s >= 265 && s < 285 {
				w.bits((s - 261) / 4)
			}
			d := w.symbol(dist)
			if d >= 2 {
				extra := d/2 - 1
				d = (2+d&1)<<extra + w.bits(extra)
			}
			distance = max(distance, d+1)
		}
	}
	return distance
}

// TestDistances checks that no reference reaches farther than the window, and that some reach as far.
func TestDistances(t *testing.T) {
	t.Parallel()
	blocks := contents(6)
	for window := 512; window <= deflate.MaxWindow; window *= 2 {
		c := compressor(t, 0, window)
		for _, name := range []string{"far", "words", "text", "records"} {
			p := blocks[name]
			p = p[:min(len(p), 100_000)]
			stream, err := c.Append(nil, p)
			if err != nil {
				t.Fatal(err)
			}
			check(t, fmt.Sprintf("window %d, %s", window, name), stream, p)
			if d := farthest(t, stream); d > window {
				t.Errorf("window %d, %s: a distance of %d", window, name, d)
			}
		}
	}
	p := blocks["far"]
	stream, err := compressor(t, 0, deflate.MaxWindow).Append(nil, p)
	if d := farthest(t, stream); err != nil || d != deflate.MaxWindow {
		t.Errorf("the greatest distance is %d, want %d; %v", d, deflate.MaxWindow, err)
	}
}
