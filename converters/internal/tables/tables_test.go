package tables_test

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/internal/tables"
)

// counter is a file of any size whose bytes tell their offset. It counts reads.
type counter struct {
	size  int64
	reads int
	bytes int
}

func (c *counter) ReadAt(p []byte, off int64) (int, error) {
	c.reads++
	c.bytes += len(p)
	n := int(max(0, min(int64(len(p)), c.size-off)))
	for i := range n {
		p[i] = byte((off + int64(i)) >> 3)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func TestFrom(t *testing.T) {
	t.Parallel()
	const at, size = 1000, 300_000
	f := &counter{size: 1 << 40}
	c := tables.New(f)
	for _, index := range []int64{0, 1, 8191, 8192, 8193, size/8 - 1, 5, 8200} {
		b, err := c.From(at, size, index, 8)
		if err != nil {
			t.Fatal(err)
		}
		want := make([]byte, len(b))
		if _, err := (&counter{size: 1 << 40}).ReadAt(want, at+index*8); err != nil || !bytes.Equal(b, want) || len(b) < 8 {
			t.Errorf("entry %d: %d bytes are wrong (%v)", index, len(b), err)
		}
	}
	if f.reads != 3 {
		t.Errorf("%d reads for entries on 3 pages", f.reads)
	}
}

func TestTruncated(t *testing.T) {
	t.Parallel()
	c := tables.New(&counter{size: 5000})
	if _, err := c.From(4000, 1<<20, 0, 8); !errors.Is(err, image.ErrTruncated) {
		t.Errorf("error is %v, want ErrTruncated", err)
	}
}

// TestOverlap reads two tables of different length at one place.
func TestOverlap(t *testing.T) {
	t.Parallel()
	c := tables.New(&counter{size: 1 << 20})
	for _, size := range []int64{512, 4096, 512, 65536} {
		b, err := c.From(0, size, size/8-1, 8)
		if err != nil || len(b) != 8 {
			t.Errorf("last entry of a table of %d bytes: %d bytes, %v", size, len(b), err)
		}
	}
}

// TestBudget walks a table of 64 MiB. What is read must not stay.
func TestBudget(t *testing.T) {
	t.Parallel()
	f := &counter{size: 1 << 40}
	c := tables.New(f)
	for range 2 {
		for index := int64(0); index < 1<<23; index += 8192 {
			if _, err := c.From(0, 1<<26, index, 8); err != nil {
				t.Fatal(err)
			}
		}
	}
	if f.bytes != 2<<26 {
		t.Errorf("%d bytes are read for two walks over 64 MiB; pages stayed", f.bytes)
	}
}
