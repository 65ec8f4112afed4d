package vcentersim

import (
	"maps"
	"slices"
	"sync"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// grain is the unit in which writes of the guest are kept apart from the disk's base.
const grain = 64 << 10

// content is the content of a disk in generations. Freezing ends a generation; what is written later belongs to the next ones. Nothing is
// ever merged, so that a generation stays readable.
type content struct {
	base image.Reader

	mu     sync.RWMutex
	layers []map[int64][]byte // each maps grain numbers to the grains written in that generation
	open   bool               // the last layer may still be written
}

// freeze returns the number of the present generation and ends it if anything was written in it.
func (c *content) freeze() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open = false
	return len(c.layers)
}

// writeAt writes as the guest would.
func (c *content) writeAt(p []byte, off int64) error {
	if size := c.base.Info().VirtualSize; off < 0 || off > size || int64(len(p)) > size-off {
		return fault.New(fault.OutOfRange, "write of %d bytes at %d is outside of the disk of %d bytes", len(p), off, size)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.open {
		c.layers = append(c.layers, make(map[int64][]byte))
		c.open = true
	}
	top := c.layers[len(c.layers)-1]
	for len(p) > 0 {
		g := off / grain
		if top[g] == nil {
			fresh := make([]byte, min(grain, c.base.Info().VirtualSize-g*grain))
			if err := c.readLocked(fresh, g*grain, len(c.layers)); err != nil {
				return err
			}
			top[g] = fresh
		}
		n := copy(top[g][off-g*grain:], p)
		p, off = p[n:], off+int64(n)
	}
	return nil
}

// readLocked reads what the first layers make of the base.
func (c *content) readLocked(p []byte, off int64, layers int) error {
	for len(p) > 0 {
		g := off / grain
		n := min(int64(len(p)), (g+1)*grain-off)
		if written := c.newest(g, layers); written != nil {
			copy(p[:n], written[off-g*grain:])
		} else if _, err := c.base.ReadAt(p[:n], off); err != nil {
			return err
		}
		p, off = p[n:], off+n
	}
	return nil
}

func (c *content) newest(g int64, layers int) []byte {
	for _, layer := range slices.Backward(c.layers[:layers]) {
		if b, ok := layer[g]; ok {
			return b
		}
	}
	return nil
}

// at returns a generation as a disk image. Closing it does nothing.
func (c *content) at(generation int) image.Reader {
	written := make(map[int64]struct{})
	c.mu.RLock()
	for _, layer := range c.layers[:generation] {
		for g := range layer {
			written[g] = struct{}{}
		}
	}
	c.mu.RUnlock()
	return &frozenDisk{c: c, generation: generation, written: slices.Sorted(maps.Keys(written))}
}

// frozenDisk implements image.Reader for one generation.
type frozenDisk struct {
	c          *content
	generation int
	written    []int64 // grain numbers that a layer holds, ascending
}

func (d *frozenDisk) Info() image.Info {
	return image.Info{Format: "raw", VirtualSize: d.c.base.Info().VirtualSize, FileSize: -1}
}

func (d *frozenDisk) Close() error { return nil }

func (d *frozenDisk) ReadAt(p []byte, off int64) (int, error) {
	size := d.Info().VirtualSize
	if off < 0 || off >= size {
		return 0, errEOF(off)
	}
	n := min(int64(len(p)), size-off)
	d.c.mu.RLock()
	err := d.c.readLocked(p[:n], off, d.generation)
	d.c.mu.RUnlock()
	if err == nil && n < int64(len(p)) {
		err = errEOF(off)
	}
	return int(n), err
}

func (d *frozenDisk) NextExtent(off int64) (image.Extent, error) {
	size := d.Info().VirtualSize
	g := off / grain
	i, hit := slices.BinarySearch(d.written, g)
	if hit {
		end := g + 1
		for i++; i < len(d.written) && d.written[i] == end; i++ {
			end++
		}
		return image.Extent{Off: off, Len: min(end*grain, size) - off, Kind: image.Data, Host: -1}, nil
	}
	e, err := d.c.base.NextExtent(off)
	if err == nil && i < len(d.written) {
		e.Len = min(e.Len, d.written[i]*grain-off)
	}
	e.Host = -1
	return e, err
}
