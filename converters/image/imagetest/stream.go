package imagetest

import (
	"bytes"
	"errors"
	"io"
	"os"
	"testing"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/internal/engine"
)

// StreamAgrees reads files both ways: the stream must bring what the reader sees, each piece once.
func StreamAgrees(t *testing.T, h Harness) {
	t.Helper()
	if h.Format.OpenStream == nil {
		return
	}
	h.each(t, func(t *testing.T, v Variant) {
		t.Helper()
		for _, disk := range []*Disk{{Size: 0}, {Size: 700_000}, RandomDisk(21, 1_200_512)} {
			path := Write(t, h, v, disk)
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			got, err := collect(h, bytes.NewReader(b), int64(len(b)))
			if err != nil {
				t.Fatal(err)
			}
			want := make([]byte, len(got))
			read(t, Open(t, h, path), want, 0)
			if !bytes.Equal(got, want) {
				t.Errorf("stream and reader differ at offset %d", firstDifference(got, want))
			}
		}
	})
}

// collect reads a stream to its end and checks its chunks.
func collect(h Harness, r io.Reader, size int64) ([]byte, error) {
	s, err := h.Format.OpenStream(r, size)
	if err != nil {
		return nil, err
	}
	info := s.Info()
	disk, seen := make([]byte, info.VirtualSize), map[int64]bool{}
	for {
		c, err := s.Next()
		if errors.Is(err, io.EOF) {
			return disk, s.Close()
		}
		if err != nil {
			return nil, err
		}
		if c.Off%info.ClusterSize != 0 || seen[c.Off] || c.Off+int64(c.Len) > info.VirtualSize {
			return nil, image.Corruptf("chunk [%d,+%d) is out of place or comes twice", c.Off, c.Len)
		}
		seen[c.Off] = true
		err = c.Decode(disk[c.Off:][:c.Len])
		c.Release()
		if err != nil {
			return nil, err
		}
	}
}

// StreamTruncated cuts streams at many places: each must end in ErrTruncated or another image error, never in io.EOF.
func StreamTruncated(t *testing.T, h Harness) {
	t.Helper()
	if h.Format.OpenStream == nil {
		return
	}
	h.each(t, func(t *testing.T, v Variant) {
		t.Helper()
		whole, err := os.ReadFile(Write(t, h, v, RandomDisk(23, 1_000_000)))
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range cuts(len(whole)) {
			_, err := collect(h, bytes.NewReader(whole[:n]), int64(len(whole)))
			if err == nil {
				t.Errorf("a stream cut at %d of %d bytes is read without error", n, len(whole))
			} else if !Refused(err) {
				t.Errorf("a stream cut at %d of %d bytes: %v, which is no image error", n, len(whole), err)
			}
		}
		if _, err := h.Format.OpenStream(io.MultiReader(bytes.NewReader(whole[:100]), failingReader{}), int64(len(whole))); err == nil {
			if _, err = collect(h, io.MultiReader(bytes.NewReader(whole[:100]), failingReader{}), int64(len(whole))); !errors.Is(err, errFailing) {
				t.Errorf("an error of the source becomes %v", err)
			}
		}
	})
}

var errFailing = errors.New("the source fails")

type failingReader struct{}

func (failingReader) Read([]byte) (int, error) { return 0, errFailing }

// ChunkStream delivers a disk's content in chunks, in the order given by Order, or ascending.
type ChunkStream struct {
	Disk *Disk
	Unit int64
	// Order lists the indexes of the chunks; chunks that hold zeros only may be left out.
	Order []int64
	// Released counts the chunks given back.
	Released int
	next     int
}

// Info describes the disk.
func (s *ChunkStream) Info() image.Info {
	return image.Info{Format: "test", VirtualSize: s.Disk.Size, FileSize: -1, ClusterSize: s.Unit}
}

// Close does nothing.
func (s *ChunkStream) Close() error { return nil }

// Next returns the next chunk.
func (s *ChunkStream) Next() (image.Chunk, error) {
	if s.next == len(s.Order) {
		return image.Chunk{}, io.EOF
	}
	off := s.Order[s.next] * s.Unit
	s.next++
	n := int(min(s.Unit, s.Disk.Size-off))
	return image.Chunk{
		Off: off, Len: n, Release: func() {},
		Decode: func(dst []byte) error {
			_, err := s.Disk.ReadAt(dst[:n], off)
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return err
		},
	}, nil
}

// StreamSource writes from a stream whose chunks come in several orders and sizes, and reads the result back.
func StreamSource(t *testing.T, h Harness) {
	t.Helper()
	h.each(t, func(t *testing.T, v Variant) {
		t.Helper()
		disk := RandomDisk(31, 1_500_100)
		for _, unit := range []int64{4096, 256 << 10} {
			if v.Options.ClusterSize > unit && v.Options.Compression != "" {
				continue // pieces cannot be joined
			}
			for name, order := range orders(int((disk.Size + unit - 1) / unit)) {
				path := writeStream(t, h, v, &ChunkStream{Disk: disk, Unit: unit, Order: order})
				t.Run(name, func(t *testing.T) { Same(t, disk, Open(t, h, path)) })
			}
		}
	})
}

func orders(n int) map[string][]int64 {
	up, down, odd := make([]int64, 0, n), make([]int64, 0, n), make([]int64, 0, n)
	for i := range int64(n) {
		up = append(up, i)
		down = append(down, int64(n)-1-i)
		odd = append(odd, (i*7919+3)%int64(n)) // 7919 is prime
	}
	return map[string][]int64{"ascending": up, "descending": down, "scattered": odd}
}

func writeStream(t *testing.T, h Harness, v Variant, src image.Stream) string {
	t.Helper()
	f, err := os.Create(t.TempDir() + "/disk")
	if err != nil {
		t.Fatal(err)
	}
	defer closeFile(t, f)
	o := v.Options
	o.VirtualSize, o.ContentID, o.SourceUnit = src.Info().VirtualSize, contentID, src.Info().ClusterSize
	w, err := h.Format.Create(f, o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := engine.CopyStream(t.Context(), src, w, f, engine.Options{Workers: 3}); err != nil {
		t.Fatal(err)
	}
	if err := w.Finish(); err != nil {
		t.Fatal(err)
	}
	return f.Name()
}
