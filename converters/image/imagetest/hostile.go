package imagetest

import (
	"bytes"
	"context"
	"errors"
	"os"
	"runtime"
	"testing"

	"github.com/hyperplane-project/hyperplane/converters/image"
)

// Damage is a good image with something wrong in it.
type Damage struct {
	// Patch changes the bytes of a good image. It may return a shorter or longer slice.
	Patch func(b []byte) []byte
	// Want is the error that opening or reading must give; nil if the image must still be read.
	Want error
}

// Damages applies each damage to its own copy of good, and opens and reads the result.
func Damages(t *testing.T, h Harness, good []byte, damages map[string]Damage) {
	t.Helper()
	for name, d := range damages {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := d.Patch(bytes.Clone(good))
			if err := OpenAndDrain(h, b); !errors.Is(err, d.Want) {
				t.Errorf("error is %v, want %v", err, d.Want)
			}
		})
	}
}

// OpenAndDrain opens b as an image and reads its content, at most 64 MiB of it.
func OpenAndDrain(h Harness, b []byte) error {
	r, err := h.Format.Open(image.NewFile(bytes.NewReader(b), int64(len(b)), "image"), image.OpenOptions{})
	if err != nil {
		return err
	}
	return errors.Join(drain(r, 64<<20), r.Close())
}

// Bytes writes src in the given variant and returns the file.
func Bytes(t *testing.T, h Harness, v Variant, src image.Reader) []byte {
	t.Helper()
	b, err := os.ReadFile(Write(t, h, v, src))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Allocates returns how many bytes fn allocates. The test must not be parallel.
func Allocates(fn func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	fn()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// FuzzReader fuzzes a format's reader. Whatever the bytes are, opening and reading must end soon, allocate little, and refuse with an image error.
func FuzzReader(f *testing.F, h Harness) {
	f.Helper()
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := h.Format.Open(image.NewFile(bytes.NewReader(b), int64(len(b)), "fuzz"), image.OpenOptions{})
		if err == nil {
			err = drain(r, 4<<20)
		}
		if err == nil {
			err = check(t.Context(), r)
		}
		if err != nil && !Refused(err) {
			t.Fatalf("%v: is no error an image is refused with", err)
		}
	})
}

// check examines the image, if its format can.
func check(ctx context.Context, r image.Reader) error {
	c, ok := r.(image.Checker)
	if !ok {
		return nil
	}
	return c.Check(ctx, func(image.Finding) {})
}

// FuzzStream fuzzes a format's stream.
func FuzzStream(f *testing.F, h Harness) {
	f.Helper()
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := h.Format.OpenStream(bytes.NewReader(b), int64(len(b)))
		var dst []byte
		for n := 0; err == nil && n < 100; n++ {
			var c image.Chunk
			if c, err = s.Next(); err == nil {
				dst = append(dst[:0], make([]byte, c.Len)...)
				err = c.Decode(dst)
				c.Release()
			}
		}
		if err != nil && !isEOF(err) && !Refused(err) {
			t.Fatalf("%v: is no error an image is refused with", err)
		}
	})
}

// AddSeeds adds small images of all variants to a fuzz test.
func AddSeeds(f *testing.F, h Harness) {
	f.Helper()
	for _, v := range h.Variants {
		if v.Several {
			continue
		}
		for _, disk := range []*Disk{{Size: 40_000, Pieces: []Piece{{0, 1500, Text}, {30_000, 2000, Random}}}, {Size: 8 << 20}} {
			f.Add(seed(f, h, v, disk))
		}
	}
}
