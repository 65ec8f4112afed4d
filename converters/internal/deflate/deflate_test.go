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
