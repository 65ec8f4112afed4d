package vhdx

import (
	"encoding/binary"
	"errors"
	"io"
	"slices"

	"github.com/hyperplane-project/hyperplane/converters/image"
)

// maxGrowth is how much longer than the file the log may say that it should be. Hyper-V lengthens files by a few blocks at once.
const maxGrowth = 1 << 30

// changes is a file with the changes of its log. The changes are kept in memory, which the size of the log bounds: pages that replace the file's, and
// runs that are zeros. What the log makes the file longer by is zeros too.
type changes struct {
	image.File
	size  int64
	pages []changedPage // ascending
	zeros []run         // ascending and apart from each other
}

type changedPage struct {
	at   int64
	data []byte
}

// run is a run of bytes of the file.
type run struct{ at, end int64 }

var (
	_ image.File    = (*changes)(nil)
	_ image.Metered = (*changes)(nil)
)

// replay returns f with the changes of its log applied, and how many entries were. It fails if the log, which should hold changes, does not.
func replay(f image.File, h *header, budget int64) (*changes, int, error) {
	if h.logSize > maxLog {
		return nil, 0, image.Limitf("vhdx: a log of %d bytes exceeds %d", h.logSize, maxLog)
	}
	if h.logAt > f.Size()-h.logSize {
		return nil, 0, image.Truncatedf("vhdx: the log of %d bytes at offset %d reaches past the end of the file at %d", h.logSize, h.logAt, f.Size())
	}
	j := &journal{f: f, at: h.logAt, size: h.logSize, id: h.log, budget: budget}
	entries, err := j.active()
	if err != nil {
		return nil, 0, err
	}
	if len(entries) == 0 {
		return nil, 0, image.Corruptf("vhdx: the header says that the log at offset %d holds changes, but it has no valid sequence of entries", h.logAt)
	}
	c := &changes{File: f, size: f.Size()}
	if err := c.grow(entries); err != nil {
		return nil, 0, err
	}
	for _, e := range entries {
		if err := c.apply(j, e); err != nil {
			return nil, 0, err
		}
	}
	c.mergeZeros()
	return c, len(entries), nil
}

// grow gives the file the length that the log says.
func (c *changes) grow(entries []entry) error {
	if flushed := entries[len(entries)-1].flushed; flushed > uint64(c.size) {
		return image.Truncatedf("vhdx: the file has %d bytes; according to its log it had %d", c.size, flushed)
	}
	last := uint64(c.size)
	for _, e := range entries {
		last = max(last, e.last)
	}
	if last > uint64(c.size)+maxGrowth {
		return image.Limitf("vhdx: the log makes a file of %d bytes one of %d; more than %d is not added", c.size, last, maxGrowth)
	}
	c.size = int64(last)
	return nil
}

// apply takes over the changes of one entry, whose descriptors and data are complete ([MS-VHDX] 2.3.1.2 to 2.3.1.4).
func (c *changes) apply(j *journal, e entry) error {
	_, b, err := j.read(e.at)
	if err != nil {
		return err
	}
	if b == nil {
		return image.Corruptf("vhdx: the log changed while it was read")
	}
	le := binary.LittleEndian
	data := b[e.front():]
	for i := range e.descriptors {
		d := b[entryHeader+i*descriptorSize:][:descriptorSize]
		at, n := le.Uint64(d[16:]), uint64(page)
		if string(d[:4]) == zeroDescriptor {
			n = le.Uint64(d[8:])
		}
		if at%page != 0 || n%page != 0 || n > uint64(c.size) || at > uint64(c.size)-n {
			return image.Corruptf("vhdx: log entry %d changes %d bytes at offset %d of a file of %d bytes", e.sequence, n, at, c.size)
		}
		if string(d[:4]) == zeroDescriptor {
			c.zero(run{int64(at), int64(at + n)})
			continue
		}
		// The signature and the halves of the sequence number stand where a page has these bytes of its own.
		p := slices.Concat(d[8:16], data[8:page-4], d[4:8])
		c.put(changedPage{int64(at), p})
		data = data[page:]
	}
	return nil
}

// find returns the index of the first page at or behind at.
func (c *changes) find(at int64) (int, bool) {
	return slices.BinarySearchFunc(c.pages, at, func(p changedPage, at int64) int { return int(min(1, max(-1, p.at-at))) })
}

func (c *changes) put(p changedPage) {
	i, ok := c.find(p.at)
	if ok {
		c.pages[i] = p
		return
	}
	c.pages = slices.Insert(c.pages, i, p)
}

// zero notes a run of zeros. Pages that came before are gone; pages that come later lie on top.
func (c *changes) zero(r run) {
	from, _ := c.find(r.at)
	to, _ := c.find(r.end)
	c.pages = slices.Delete(c.pages, from, to)
	if r.end > r.at {
		c.zeros = append(c.zeros, r)
	}
}

// mergeZeros sorts the runs of zeros and joins those that touch.
func (c *changes) mergeZeros() {
	slices.SortFunc(c.zeros, func(a, b run) int { return int(min(1, max(-1, a.at-b.at))) })
	merged := c.zeros[:0]
	for _, r := range c.zeros {
		if n := len(merged); n > 0 && r.at <= merged[n-1].end {
			merged[n-1].end = max(merged[n-1].end, r.end)
			continue
		}
		merged = append(merged, r)
	}
	c.zeros = merged
}

// Size returns the size of the file once the changes are applied.
func (c *changes) Size() int64 { return c.size }

// BytesRead returns how much of the file was read, or 0 if it does not count.
func (c *changes) BytesRead() int64 { return image.BytesRead(c.File) }

// ReadAt reads the file with the changes.
func (c *changes) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off >= c.size {
		return 0, io.EOF
	}
	var end error
	if rest := c.size - off; int64(len(p)) > rest {
		p, end = p[:rest], io.EOF
	}
	n, err := c.File.ReadAt(p, off)
	if n < len(p) && err != nil && !errors.Is(err, io.EOF) {
		return n, err
	}
	clear(p[n:])
	c.overlay(p, off)
	return len(p), end
}

// overlay puts the changes over what was read from off on.
func (c *changes) overlay(p []byte, off int64) {
	end := off + int64(len(p))
	i, _ := slices.BinarySearchFunc(c.zeros, off, func(r run, off int64) int {
		if r.end <= off {
			return -1
		}
		return 1
	})
	for _, r := range c.zeros[i:] {
		if r.at >= end {
			break
		}
		clear(p[max(r.at, off)-off : min(r.end, end)-off])
	}
	first, _ := c.find(off - page + 1)
	for _, q := range c.pages[first:] {
		if q.at >= end {
			break
		}
		from := max(q.at, off)
		copy(p[from-off:], q.data[from-q.at:])
	}
}
