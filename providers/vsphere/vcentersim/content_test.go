package vcentersim

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/raw"
)

// TestGenerations writes and freezes at random, and compares every generation with a plain copy of that time.
func TestGenerations(t *testing.T) {
	t.Parallel()
	const size = 5*grain + 512
	rng := rand.New(rand.NewPCG(1, 2))
	live := make([]byte, size)
	for i := range live[:2*grain] {
		live[i] = byte(i / 7)
	}
	c := &content{base: raw.New(bytes.NewReader(bytes.Clone(live)), size)}
	frozen := map[int][]byte{c.freeze(): bytes.Clone(live)}
	for range 200 {
		if rng.IntN(4) == 0 {
			frozen[c.freeze()] = bytes.Clone(live)
			continue
		}
		p := make([]byte, rng.IntN(2*grain))
		for i := range p {
			p[i] = byte(rng.Uint32())
		}
		off := rng.Int64N(size - int64(len(p)) + 1)
		if err := c.writeAt(p, off); err != nil {
			t.Fatal(err)
		}
		copy(live[off:], p)
	}
	if len(frozen) < 10 {
		t.Fatalf("only %d generations", len(frozen))
	}
	for generation, want := range frozen {
		disk := c.at(generation)
		got := make([]byte, size)
		if _, err := disk.ReadAt(got, 0); err != nil || !bytes.Equal(got, want) {
			t.Errorf("generation %d differs (%v)", generation, err)
		}
		if through := byExtents(t, disk); !bytes.Equal(through, want) {
			t.Errorf("generation %d differs when it is read by its extents", generation)
		}
	}
}

func byExtents(t *testing.T, disk image.Reader) []byte {
	t.Helper()
	out := make([]byte, disk.Info().VirtualSize)
	for off := int64(0); off < int64(len(out)); {
		e, err := disk.NextExtent(off)
		if err != nil || e.Off != off || e.Len < 1 || e.Off+e.Len > int64(len(out)) {
			t.Fatalf("extent at %d: %+v, %v", off, e, err)
		}
		if e.Kind == image.Data {
			if _, err := disk.ReadAt(out[off:off+e.Len], off); err != nil {
				t.Fatal(err)
			}
		}
		off += e.Len
	}
	return out
}

func TestContentBounds(t *testing.T) {
	t.Parallel()
	c := &content{base: raw.New(bytes.NewReader(make([]byte, 1024)), 1024)}
	for _, off := range []int64{-1, 1020, 1 << 62} {
		if err := c.writeAt(make([]byte, 8), off); err == nil {
			t.Errorf("a write at %d is accepted", off)
		}
	}
	disk := c.at(c.freeze())
	if n, err := disk.ReadAt(make([]byte, 100), 1000); n != 24 || !errors.Is(err, io.EOF) {
		t.Errorf("a read over the end gives %d, %v", n, err)
	}
	if _, err := disk.ReadAt(make([]byte, 1), 1024); !errors.Is(err, io.EOF) {
		t.Errorf("a read at the end gives %v", err)
	}
	if _, err := disk.ReadAt(make([]byte, 1), -1); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("a read before the beginning gives %v", err)
	}
}
