// Package tables reads the lookup tables of disk images lazily: a page at a time, with a bound on the memory, whatever size the image claims
// its tables have.
package tables

import (
	"io"
	"sync"

	"github.com/hyperplane-project/hyperplane/converters/image"
)

const (
	// pageSize is the most that is read at once.
	pageSize = 64 << 10
	// budget bounds the bytes of cached pages.
	budget = 8 << 20
)

// Cache holds recently used pages of tables. It is safe for concurrent use.
type Cache struct {
	r io.ReaderAt

	mu    sync.Mutex
	pages map[int64]*page
	bytes int
	clock int64
}

type page struct {
	data []byte
	used int64
}

// New makes a cache of tables that lie in r.
func New(r io.ReaderAt) *Cache { return &Cache{r: r, pages: map[int64]*page{}} }

// From returns the bytes of a table from index on: at least one entry, at most the rest of its page. The table lies at off in the file, is
// size bytes long and has entries of entry bytes, a power of two. The bytes must not be changed. A table that reaches past the end of the
// file is an error that wraps image.ErrTruncated.
func (c *Cache) From(off, size, index, entry int64) ([]byte, error) {
	at := index * entry
	start := at / pageSize * pageSize
	p, err := c.page(off+start, int(min(pageSize, size-start)))
	if err != nil {
		return nil, err
	}
	return p[at-start:], nil
}

// CountSet returns how many entries of a table are not all zeros. The table is read once and not kept.
func (c *Cache) CountSet(off, size, entry int64) (n int64, err error) {
	buf := make([]byte, min(pageSize, size))
	for at := int64(0); at < size; at += pageSize {
		p := buf[:min(pageSize, size-at)]
		if err := image.ReadFull(c.r, p, off+at, "lookup table"); err != nil {
			return 0, err
		}
		for ; len(p) > 0; p = p[entry:] {
			if !allZero(p[:entry]) {
				n++
			}
		}
	}
	return n, nil
}

func allZero(p []byte) bool {
	for _, b := range p {
		if b != 0 {
			return false
		}
	}
	return true
}

func (c *Cache) page(off int64, n int) ([]byte, error) {
	if p := c.lookup(off, n); p != nil {
		return p, nil
	}
	data := make([]byte, n)
	if err := image.ReadFull(c.r, data, off, "lookup table"); err != nil {
		return nil, err
	}
	c.insert(off, data)
	return data, nil
}

func (c *Cache) lookup(off int64, n int) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.pages[off]
	// Damaged images have tables that overlap: a page of another length is another table's.
	if p == nil || len(p.data) < n {
		return nil
	}
	c.clock++
	p.used = c.clock
	return p.data[:n]
}

func (c *Cache) insert(off int64, data []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.clock++
	if old := c.pages[off]; old != nil {
		c.bytes -= len(old.data)
	}
	c.pages[off] = &page{data, c.clock}
	if c.bytes += len(data); c.bytes > budget {
		c.evict()
	}
}

// evict drops the older half of the pages: each use has its own tick of the clock, so at most half of them were used in the last ticks.
func (c *Cache) evict() {
	cutoff := c.clock - int64(len(c.pages)/2)
	for off, p := range c.pages {
		if p.used <= cutoff {
			c.bytes -= len(p.data)
			delete(c.pages, off)
		}
	}
}
