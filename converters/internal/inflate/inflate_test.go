package inflate_test

import (
	"bytes"
	"compress/flate"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	kflate "github.com/klauspost/compress/flate"

	"github.com/hyperplane-project/hyperplane/converters/internal/inflate"
)

// compress returns p as a deflate stream of the standard library.
func compress(tb testing.TB, p []byte, level int) []byte {
	tb.Helper()
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, level)
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := w.Write(p); err != nil {
		tb.Fatal(err)
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

// contents returns blocks of all characters.
func contents() map[string][]byte {
	r := rand.New(rand.NewPCG(1, 2))
	random := make([]byte, 70_000)
	for i := range random {
		random[i] = byte(r.Uint32())
	}
	var text, skewed []byte
	for len(text) < 65536 {
		text = fmt.Appendf(text, "line %d of a file, %x;\n", len(text), r.Uint32N(5000))
	}
	for len(skewed) < 65536 { // long codes for rare bytes
		skewed = append(skewed, byte(r.ExpFloat64()*9))
	}
	return map[string][]byte{
		"empty": nil, "byte": {7}, "zeros": make([]byte, 65536), "random": random, "text": text, "skewed": skewed,
		"short distances": bytes.Repeat([]byte("abc"), 9000), "pairs": bytes.Repeat([]byte("ab"), 20000), "sevens": bytes.Repeat([]byte("1234567"), 5000),
	}
}

func TestDecode(t *testing.T) {
	t.Parallel()
	var d inflate.Decoder
	for name, want := range contents() {
		for level := flate.HuffmanOnly; level <= 9; level++ {
			stream := compress(t, want, level)
			got := make([]byte, len(want))
			n, used, err := d.Decode(got, append(slices.Clip(stream), "what follows"...))
			if err != nil || n != len(want) || used != len(stream) || !bytes.Equal(got, want) {
				t.Errorf("%s at level %d: %d of %d bytes, used %d of %d, %v", name, level, n, len(want), used, len(stream), err)
			}
		}
	}
}

func TestDecodeIntoLargerBuffer(t *testing.T) {
	t.Parallel()
	var d inflate.Decoder
	for name, want := range contents() {
		got := make([]byte, len(want)+1000)
		n, _, err := d.Decode(got, compress(t, want, 6))
		if err != nil || !bytes.Equal(got[:n], want) {
			t.Errorf("%s: %d of %d bytes, %v", name, n, len(want), err)
		}
	}
}

func TestTooLong(t *testing.T) {
	t.Parallel()
	var d inflate.Decoder
	for name, want := range contents() {
		for _, short := range []int{1, 2, 300} {
			if len(want) < short {
				continue
			}
			if n, _, err := d.Decode(make([]byte, len(want)-short), compress(t, want, 6)); !errors.Is(err, inflate.ErrTooLong) {
				t.Errorf("%s into %d bytes less: %d, %v, want ErrTooLong", name, short, n, err)
			}
		}
	}
}

func TestShortInput(t *testing.T) {
	t.Parallel()
	var d inflate.Decoder
	for name, want := range contents() {
		stream := compress(t, want, 6)
		for n := 0; n < len(stream); n += 1 + n/40 {
			if _, _, err := d.Decode(make([]byte, len(want)), stream[:n]); !errors.Is(err, inflate.ErrShortInput) {
				t.Errorf("%s cut at %d of %d: %v, want ErrShortInput", name, n, len(stream), err)
			}
		}
	}
}

// bitWriter writes a stream by hand.
type bitWriter struct {
	b []byte
	n int
}

func (w *bitWriter) put(value, bits uint) *bitWriter {
	for i := range bits {
		if w.n%8 == 0 {
			w.b = append(w.b, 0)
		}
		w.b[w.n/8] |= byte(value>>i&1) << (w.n % 8)
		w.n++
	}
	return w
}

func TestCorrupt(t *testing.T) {
	t.Parallel()
	fixed := func() *bitWriter { return new(bitWriter).put(1, 1).put(1, 2) }
	dynamic := func(nlit, ndist, npre uint) *bitWriter {
		return new(bitWriter).put(1, 1).put(2, 2).put(nlit-257, 5).put(ndist-1, 5).put(npre-4, 4)
	}
	for name, w := range map[string]*bitWriter{
		"block of type 3":             new(bitWriter).put(7, 3),
		"stored lengths disagree":     new(bitWriter).put(1, 3).put(0, 5).put(5, 16).put(5, 16),
		"distance before the start":   fixed().put(0x40, 7).put(0, 5).put(0, 32),
		"length symbol 286":           fixed().put(0x63, 8).put(0, 32),
		"distance symbol 30":          fixed().put(0x0c, 8).put(0x40, 7).put(0x0f, 5).put(0, 32),
		"too many length symbols":     dynamic(287, 1, 4).put(0, 64),
		"too many distance symbols":   dynamic(257, 31, 4).put(0, 64),
		"no code-length code":         dynamic(257, 1, 4).put(0, 64),
		"code-length code too large":  dynamic(257, 1, 4).put(0b001_001_001_001, 12).put(0, 64),
		"repeat before any length":    dynamic(257, 1, 4).put(1, 3).put(1, 3).put(0, 64),
		"incomplete code-length code": dynamic(257, 1, 4).put(2, 3).put(0, 64),
	} {
		var d inflate.Decoder
		if _, _, err := d.Decode(make([]byte, 600), w.put(0, 64).b); !errors.Is(err, inflate.ErrCorrupt) {
			t.Errorf("%s: %v, want ErrCorrupt", name, err)
		}
		if _, err := io.ReadAll(flate.NewReader(bytes.NewReader(w.b))); err == nil {
			t.Errorf("%s: the standard library accepts it", name)
		}
	}
}

// FuzzDecode compares with compress/flate: the same streams are accepted, with the same output and end.
func FuzzDecode(f *testing.F) {
	for _, p := range contents() {
		f.Add(compress(f, p[:min(len(p), 3000)], 6), 3000)
		f.Add(compress(f, p[:min(len(p), 700)], flate.HuffmanOnly), 700)
		f.Add(compress(f, p[:min(len(p), 100)], flate.NoCompression), 99)
	}
	f.Fuzz(func(t *testing.T, stream []byte, size int) {
		if size < 0 || size > 1<<20 {
			return
		}
		var d inflate.Decoder
		got := make([]byte, size)
		n, used, err := d.Decode(got, stream)
		src := bytes.NewReader(stream)
		want, wantErr := io.ReadAll(io.LimitReader(flate.NewReader(src), int64(size)+1))
		switch {
		case err == nil && wantErr != nil:
			t.Fatalf("accepted; the standard library says %v", wantErr)
		case err == nil && (!bytes.Equal(got[:n], want) || used != len(stream)-src.Len()):
			t.Fatalf("%d bytes of %d used, want %d of %d; or other content", n, used, len(want), len(stream)-src.Len())
		case err != nil && wantErr == nil && len(want) <= size:
			t.Fatalf("%v; the standard library reads %d bytes", err, len(want))
		}
	})
}

// BenchmarkDecode decodes this test's own program in units of 64 KiB, which compresses about as disks do.
func BenchmarkDecode(b *testing.B) {
	const unit = 64 << 10
	path, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		b.Fatal(err)
	}
	var streams [][]byte
	for ; len(data) >= unit; data = data[unit:] {
		streams = append(streams, compress(b, data[:unit], 6))
	}
	dst := make([]byte, unit)
	b.Run("inflate", func(b *testing.B) {
		var d inflate.Decoder
		b.SetBytes(unit)
		for i := 0; b.Loop(); i++ {
			if n, _, err := d.Decode(dst, streams[i%len(streams)]); err != nil || n != unit {
				b.Fatal(n, err)
			}
		}
	})
	b.Run("klauspost", func(b *testing.B) { benchmarkReader(b, kflate.NewReader(nil), streams, dst) })
	b.Run("standard", func(b *testing.B) { benchmarkReader(b, flate.NewReader(nil), streams, dst) })
}

func benchmarkReader(b *testing.B, r io.Reader, streams [][]byte, dst []byte) {
	b.Helper()
	b.SetBytes(int64(len(dst)))
	for i := 0; b.Loop(); i++ {
		if err := r.(flate.Resetter).Reset(bytes.NewReader(streams[i%len(streams)]), nil); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(r, dst); err != nil {
			b.Fatal(err)
		}
	}
}
