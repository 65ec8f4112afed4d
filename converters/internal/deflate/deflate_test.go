package deflate_test

import (
	"bytes"
	"compress/flate"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/hyperplane-project/hyperplane/converters/internal/deflate"
)

func inflate(t *testing.T, stream []byte) []byte {
	t.Helper()
	p, err := io.ReadAll(flate.NewReader(bytes.NewReader(stream)))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestAppend(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 1))
	random := make([]byte, 200_000)
	for i := range random {
		random[i] = byte(r.Uint32())
	}
	text := bytes.Repeat([]byte("all work and no play "), 10_000)
	for level := range 10 {
		c, err := deflate.NewCompressor(level)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range [][]byte{nil, {1}, random[:65535], random[:65536], random, text} {
			got, err := c.Append([]byte("before"), p)
			if err != nil {
				t.Fatal(err)
			}
			stream, ok := bytes.CutPrefix(got, []byte("before"))
			if !ok || !bytes.Equal(inflate(t, stream), p) {
				t.Errorf("level %d, %d bytes: content differs", level, len(p))
			}
			if len(stream) > deflate.StoredSize(len(p)) {
				t.Errorf("level %d, %d bytes: %d bytes, more than stored", level, len(p), len(stream))
			}
		}
	}
}

func TestAppendStored(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 65535, 65536, 131_070, 131_071} {
		p := bytes.Repeat([]byte{7}, n)
		stream := deflate.AppendStored(nil, p)
		if !bytes.Equal(inflate(t, stream), p) || len(stream) != deflate.StoredSize(n) {
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
			if err != nil || !bytes.Equal(inflate(t, stream), p) {
				t.Errorf("window %d: content differs, %v", window, err)
			}
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
