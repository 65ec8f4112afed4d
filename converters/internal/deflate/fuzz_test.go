package deflate_test

import (
	"bytes"
	"slices"
	"testing"

	"github.com/hyperplane-project/hyperplane/converters/internal/deflate"
)

// FuzzCompress compresses blocks that are made of the input: its first part is repeated, the whole moved to places where tables and buffers wrap.
func FuzzCompress(f *testing.F) {
	for _, p := range contents(5) {
		f.Add(p[:min(len(p), 2000)], uint8(0), uint16(0), uint32(0))
		f.Add(p[:min(len(p), 200)], uint8(1), uint16(100), uint32(65500))
		f.Add(p[:min(len(p), 1000)], uint8(7), uint16(999), uint32(130_900))
	}
	f.Fuzz(func(t *testing.T, p []byte, kind uint8, times uint16, shift uint32) {
		block := make([]byte, shift%(200<<10), 300<<10)
		for i := range block {
			block[i] = byte(i * i >> (kind & 15)) // regular, but not all the same
		}
		block = append(block, p...)
		for range times % 1024 {
			if block = append(block, p[:min(len(p), int(kind)*3)]...); len(block) > 300<<10 {
				break
			}
		}
		level, window := 5+int(kind%5), deflate.MaxWindow
		if kind%7 == 0 {
			level, window = 0, 512<<(kind/7%6)
		}
		stream, err := compressor(t, level, window).Append(nil, slices.Clone(block))
		if err != nil {
			t.Fatal(err)
		}
		check(t, "fuzz", stream, block)
		if d := farthest(t, stream); d > window { // our decoders would not notice
			t.Errorf("a distance of %d in a window of %d", d, window)
		}
		again, err := compressor(t, level, window).Append(nil, block)
		if err != nil || !bytes.Equal(again, stream) {
			t.Errorf("the second stream is another, %v", err)
		}
	})
}
