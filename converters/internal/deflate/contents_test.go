package deflate_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
)

// contents returns blocks of all characters, others for another key.
func contents(key uint64) map[string][]byte {
	r := rand.New(rand.NewPCG(key, 1))
	random := make([]byte, 200_000)
	for i := range random {
		random[i] = byte(r.Uint32())
	}
	blocks := map[string][]byte{
		"empty": nil, "byte": {1}, "two bytes": {1, 2}, "three": []byte("abc"), "four": []byte("aaaa"), "five": []byte("aaaaa"),
		"zeros": make([]byte, 65536), "sevens": bytes.Repeat([]byte{7}, 70_000),
		"random 65535": random[:65535], "random 65536": random[:65536], "random": random, "random in zeros": append(make([]byte, 99_000), random...),
		"words": bytes.Repeat([]byte("all work and no play "), 10_000), "pairs": bytes.Repeat([]byte("ab"), 40_000),
		"far": bytes.Repeat(random[:32768], 6), "too far": bytes.Repeat(random[:32769], 6), "alias": bytes.Repeat(random[:65536], 4),
		"all bytes": all(), "text": text(r, 65536), "large": text(r, 300_000), "skewed": skewed(r, 65536), "fibonacci": fibonacci(),
		"records": records(r, 200_000),
	}
	var mixed []byte
	for _, name := range []string{"text", "random 65535", "zeros", "records", "skewed", "fibonacci", "text"} {
		mixed = append(mixed, blocks[name]...)
	}
	blocks["mixed"] = mixed
	return blocks
}

// all returns all bytes once.
func all() (p []byte) {
	for b := range 256 {
		p = append(p, byte(b))
	}
	return p
}

func text(r *rand.Rand, n int) (p []byte) {
	for len(p) < n {
		p = fmt.Appendf(p, "line %d of a file, %x;\n", len(p), r.Uint32N(5000))
	}
	return p[:n]
}

// skewed returns literals with codes of very different lengths.
func skewed(r *rand.Rand, n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(r.ExpFloat64() * 9)
	}
	return p
}

// fibonacci returns bytes with frequencies for which the best code has more than 15 bits, in an order with few matches.
func fibonacci() (p []byte) {
	for symbol, n, next := 0, 1, 1; len(p) < 30_000; symbol, n, next = symbol+1, next, n+next {
		p = append(p, bytes.Repeat([]byte{byte(symbol)}, n)...)
	}
	rand.New(rand.NewPCG(4, 4)).Shuffle(len(p), func(i, j int) { p[i], p[j] = p[j], p[i] })
	return p
}

// records returns what tables of a file system look like.
func records(r *rand.Rand, n int) (p []byte) {
	for i := uint32(0); len(p) < n; i++ {
		p = binary.LittleEndian.AppendUint32(p, 1000+i)
		p = binary.LittleEndian.AppendUint32(p, r.Uint32N(100))
		p = append(p, make([]byte, r.IntN(3)*4)...)
	}
	return p[:n]
}
