package deflate_test

import (
	"bytes"
	"compress/flate"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/hyperplane-project/hyperplane/converters/internal/deflate"
	"github.com/hyperplane-project/hyperplane/converters/internal/inflate"
)

// check decodes a stream with the standard library and with our own decoder, which has to find the stream's end as well, and compares.
func check(t *testing.T, name string, stream, want []byte) {
	t.Helper()
	got, err := io.ReadAll(flate.NewReader(bytes.NewReader(stream)))
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s: the standard library reads %d bytes of %d, %v; or other content", name, len(got), len(want), err)
	}
	var d inflate.Decoder
	got = make([]byte, len(want))
	n, used, err := d.Decode(got, stream)
	if err != nil || n != len(want) || used != len(stream) || !bytes.Equal(got, want) {
		t.Errorf("%s: inflate reads %d bytes of %d from %d of %d, %v; or other content", name, n, len(want), used, len(stream), err)
	}
	if len(stream) > deflate.StoredSize(len(want)) {
		t.Errorf("%s: %d bytes become %d, more than stored", name, len(want), len(stream))
	}
}

func compressor(tb testing.TB, level, window int) *deflate.Compressor {
	tb.Helper()
	c, err := deflate.NewWindowCompressor(level, window)
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

func TestAppend(t *testing.T) {
	t.Parallel()
	blocks := contents(1)
	for level := range 10 {
		c := compressor(t, level, deflate.MaxWindow)
		for name, p := range blocks {
			got, err := c.Append([]byte("before"), p)
			stream, ok := bytes.CutPrefix(got, []byte("before"))
			if err != nil || !ok {
				t.Fatalf("level %d, %s: %v, or what was there is lost", level, name, err)
			}
			check(t, fmt.Sprintf("level %d, %s", level, name), stream, p)
		}
	}
}

// TestSizes compresses blocks of sizes around those where something changes.
func TestSizes(t *testing.T) {
	t.Parallel()
	text := contents(2)["large"]
	c := compressor(t, 0, deflate.MaxWindow)
	for _, around := range []int{8, 258, 512, 1024, 32 << 10, 64 << 10, 128 << 10, 192 << 10} {
		for n := around - 5; n <= around+5; n++ {
			stream, err := c.Append(nil, text[:n])
			if err != nil {
				t.Fatal(err)
			}
			check(t, fmt.Sprintf("%d bytes", n), stream, text[:n])
		}
	}
}

// TestLarge compresses the largest clusters.
func TestLarge(t *testing.T) {
	t.Parallel()
	c := compressor(t, 0, deflate.MaxWindow)
	for name, p := range map[string][]byte{"zeros": make([]byte, 2<<20), "text": bytes.Repeat(contents(4)["mixed"], 6)[:2<<20]} {
		stream, err := c.Append(nil, p)
		if err != nil {
			t.Fatal(err)
		}
		check(t, name, stream, p)
	}
}

// TestRepeatable compresses blocks with a fresh compressor and after others: the stream is the same.
func TestRepeatable(t *testing.T) {
	t.Parallel()
	blocks := contents(0)
	for level := 1; level <= 9; level++ {
		used := compressor(t, level, deflate.MaxWindow)
		for _, name := range slices.Sorted(maps.Keys(blocks)) {
			got, err := used.Append(nil, blocks[name])
			want, freshErr := compressor(t, level, deflate.MaxWindow).Append(nil, blocks[name])
			if err != nil || freshErr != nil || !bytes.Equal(got, want) {
				t.Errorf("level %d, %s: the stream depends on the blocks before, or %v, %v", level, name, err, freshErr)
			}
		}
	}
}

// TestAllocations runs alone: what other tests allocate would be counted.
func TestAllocations(t *testing.T) {
	p := contents(3)["mixed"]
	for level := 5; level <= 9; level++ {
		c := compressor(t, level, deflate.MaxWindow)
		dst, err := c.Append(nil, p)
		if err != nil {
			t.Fatal(err)
		}
		if n := testing.AllocsPerRun(5, func() { dst, _ = c.Append(dst[:0], p) }); n != 0 {
			t.Errorf("level %d: %v allocations for a block", level, n)
		}
	}
}

func TestAppendStored(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 65535, 65536, 131_070, 131_071} {
		p := bytes.Repeat([]byte{7}, n)
		stream := deflate.AppendStored(nil, p)
		check(t, "stored", stream, p)
		if len(stream) != deflate.StoredSize(n) {
			t.Errorf("%d bytes are stored in %d, want %d", n, len(stream), deflate.StoredSize(n))
		}
	}
}

func TestLevels(t *testing.T) {
	t.Parallel()
	for _, level := range []int{-1, 10} {
		if _, err := deflate.NewCompressor(level); err == nil {
			t.Errorf("level %d is accepted", level)
		}
	}
}

// TestWindow compresses content that repeats itself at a distance: only a window that reaches so far helps.
func TestWindow(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(2, 2))
	random := make([]byte, 6000)
	for i := range random {
		random[i] = byte(r.Uint32())
	}
	p := bytes.Repeat(random, 10)
	for window, helps := range map[int]bool{512: false, 4096: false, 8192: true, 32768: true} {
		c, err := deflate.NewWindowCompressor(0, window)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			stream, err := c.Append(nil, p)
			if err != nil {
				t.Fatal(err)
			}
			check(t, fmt.Sprintf("window %d", window), stream, p)
			if got := len(stream) < len(p)/2; got != helps {
				t.Errorf("window %d: %d bytes become %d", window, len(p), len(stream))
			}
		}
	}
	for _, c := range [][2]int{{0, 0}, {0, 256}, {0, 5000}, {0, 65536}, {6, 4096}, {10, 32768}} {
		if _, err := deflate.NewWindowCompressor(c[0], c[1]); err == nil {
			t.Errorf("level %d with window %d is accepted", c[0], c[1])
		}
	}
}
