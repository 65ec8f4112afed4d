package deflate

import "math"

const (
	// Costs are in sixteenths of a bit.
	costBit = 16

	// About what the head of a block takes, and its code lengths for each symbol that occurs.
	costHead   = 60 * costBit
	costSymbol = 3 * costBit
)

// costs[n] is n*log2(n): what n times a symbol with a share of 1/n cost.
type costs [1024]uint32

func newCosts() (t costs) {
	for n := 2; n < len(t); n++ {
		t[n] = largeCost(uint32(n))
	}
	return t
}

func (t *costs) of(n uint32) uint32 {
	if n < uint32(len(t)) {
		return t[n]
	}
	return largeCost(n)
}

func largeCost(n uint32) uint32 { return uint32(float64(n) * math.Log2(float64(n)) * costBit) }

// block estimates the cost of a block with the symbols of two histograms; b may be nil. Extra bits are left out: they cost the same in any block.
func (t *costs) block(a, b *histogram) uint32 {
	if b == nil {
		b = &histogram{}
	}
	return costHead + t.symbols(a.lit[:], b.lit[:]) + t.symbols(a.dist[:], b.dist[:])
}

// symbols estimates the cost of symbols that occur a[i]+b[i] times: f of n cost log2(n/f) bits each.
func (t *costs) symbols(a, b []uint16) uint32 {
	var total, kinds, sum uint32
	b = b[:len(a)]
	for i, f := range a {
		if f := uint32(f + b[i]); f != 0 {
			total += f
			kinds++
			sum += t.of(f)
		}
	}
	return t.of(total) - sum + kinds*costSymbol
}
