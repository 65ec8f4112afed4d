package deflate

import (
	"math/bits"
	"slices"
)

const (
	maxBits    = 15 // of the code of a literal, length or distance
	maxPreBits = 7  // of the code of a code length

	maxSymbols = 288
)

// code is a canonical Huffman code (RFC 1951, 3.2.2).
type code struct {
	lens  [maxSymbols]uint8
	words [maxSymbols]codeword // only those of symbols whose length is not 0
}

// codeword is the code of a symbol as it is written, the first bit lowest; bits 24 and up are how many bits it has. Extra bits may be part of it.
type codeword uint32

func (c codeword) bits() uint64 { return uint64(c & (1<<24 - 1)) }
func (c codeword) length() uint { return uint(c >> 24) }

// counts says how many codes of each length there are.
type counts [maxBits + 1]int

// assign gives out the codes for the lengths of the first n symbols.
func (c *code) assign(n int, count *counts) {
	var next [maxBits + 2]uint32
	for length := 1; length <= maxBits; length++ {
		next[length+1] = (next[length] + uint32(count[length])) << 1
	}
	for s, length := range c.lens[:n] {
		if length != 0 {
			c.words[s] = codeword(bits.Reverse32(next[length&15])>>((32-length)&31) | uint32(length)<<24)
			next[length&15]++
		}
	}
}

// codeBuilder makes Huffman codes.
type codeBuilder struct {
	keys [maxSymbols]uint32 // frequency and symbol, in the order of frequencies
	node [maxSymbols]uint32
}

// The symbol in a key.
const (
	keyBits = 9
	keyMask = 1<<keyBits - 1
)

// build makes a code with at most limit bits for symbols of the given frequencies. It is the best one unless the limit matters.
func (b *codeBuilder) build(c *code, freq []uint16, limit int) {
	n := 0
	for s, f := range freq {
		c.lens[s] = 0
		if f != 0 {
			b.keys[n] = uint32(f)<<keyBits | uint32(s)
			n++
		}
	}
	// The code of one symbol would be incomplete, and not all readers accept one.
	for s := 0; n < 2; s++ {
		if freq[s] == 0 {
			b.keys[n] = 1<<keyBits | uint32(s)
			n++
		}
	}
	keys := b.keys[:n]
	slices.Sort(keys)
	for i, k := range keys {
		b.node[i] = k >> keyBits
	}
	makeTree(b.node[:n])
	count := depths(b.node[:n], limit)
	shorten(&count, limit)
	i := 0
	for length := limit; length > 0; length-- {
		for range count[length] {
			c.lens[keys[i]&keyMask] = uint8(length)
			i++
		}
	}
	c.assign(len(freq), &count)
}

// makeTree replaces the ascending frequencies of at least two symbols by the inner nodes of their Huffman tree: node i, of len(node)-1, becomes the
// number of its parent; the last is the root. This is the first part of Moffat and Katajainen, In-Place Calculation of Minimum-Redundancy Codes (1995).
func makeTree(node []uint32) {
	root, leaf := 0, 0
	for next := range len(node) - 1 {
		var sum uint32
		for range 2 {
			if leaf >= len(node) || root < next && node[root] < node[leaf] {
				sum += node[root]
				node[root] = uint32(next)
				root++
			} else {
				sum += node[leaf]
				leaf++
			}
		}
		node[next] = sum
	}
}

// depths replaces the parents of the tree's inner nodes by their depths, and returns how many leaves are at each. Leaves below limit count as being there.
func depths(node []uint32, limit int) (count counts) {
	root := len(node) - 2
	node[root] = 0
	for i := root - 1; i >= 0; i-- {
		node[i] = node[node[i]] + 1
	}
	i := root
	for depth, places := 0, 1; places > 0; depth++ {
		inner := 0
		for ; i >= 0 && int(node[i]) == depth; i-- {
			inner++
		}
		count[min(depth, limit)] += places - inner
		places = 2 * inner
	}
	return count
}

// shorten makes the lengths a code again after some were cut to limit. A code of n bits takes 1/2^n of the code space, and cut ones take too much. Each
// step takes one of limit bits and puts it beside a shorter one, which gets one bit longer for it.
func shorten(count *counts, limit int) {
	space := 0
	for length, n := range count[:limit+1] {
		space += n << (limit - length)
	}
	for ; space > 1<<limit; space-- {
		length := limit - 1
		for count[length] == 0 {
			length--
		}
		count[length]--
		count[length+1] += 2
		count[limit]--
	}
}
