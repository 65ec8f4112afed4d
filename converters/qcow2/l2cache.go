package qcow2

import (
	"slices"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// l2Budget bounds the memory for L2 tables that are being filled. Content in order needs one table; the others are for content that is not.
const l2Budget = 4 << 20

// l2Cache holds the L2 tables used last. A table that falls out is written and is read back if it is needed again.
type l2Cache struct {
	w      *writer
	limit  int64
	tables []*l2Table // the one used last is at the end
}

// get returns L2 table i, which it makes if there is none. It is valid until the next get.
func (c *l2Cache) get(i int64) (*l2Table, error) {
	for n, t := range slices.Backward(c.tables) {
		if t.index == i {
			c.tables = append(append(c.tables[:n], c.tables[n+1:]...), t)
			return t, nil
		}
	}
	t, err := c.room()
	if err != nil {
		return nil, err
	}
	t.index = i
	if err := c.load(t); err != nil {
		return nil, err
	}
	c.tables = append(c.tables, t)
	return t, nil
}

// room returns a table to fill: a new one, or the one not used for longest, after it was written.
func (c *l2Cache) room() (*l2Table, error) {
	if int64(len(c.tables)) < c.limit {
		return &l2Table{w: c.w, b: make([]byte, c.w.cluster)}, nil
	}
	t := c.tables[0]
	c.tables = c.tables[1:]
	return t, c.write(t)
}

// load reads a table back, or allocates room for it in the file.
func (c *l2Cache) load(t *l2Table) error {
	entry := c.w.l1[t.index]
	if entry == 0 {
		clear(t.b)
		host, err := c.w.space.table()
		c.w.l1[t.index] = uint64(host) | copied
		return err
	}
	_, err := c.w.out.ReadAt(t.b, int64(entry&offsetMask))
	return fault.Wrap(err, "qcow2: read back an L2 table at offset %d", entry&offsetMask)
}

// write writes a table. One that stands for none is left out.
func (c *l2Cache) write(t *l2Table) error {
	if t.index < 0 {
		return nil
	}
	return c.w.writeAt(t.b, int64(c.w.l1[t.index]&offsetMask))
}

// flush writes all tables.
func (c *l2Cache) flush() error {
	for _, t := range c.tables {
		if err := c.write(t); err != nil {
			return err
		}
	}
	c.tables = nil
	return nil
}
