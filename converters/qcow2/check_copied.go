package qcow2

import (
	"encoding/binary"

	"github.com/hyperplane-project/hyperplane/converters/image"
)

// checkCopied examines the flags that say that a cluster has one user, and so may be written in place. They are right for the current state only.
func (x *examination) checkCopied() error {
	h := x.file
	if h.l1Entries == 0 || int64(h.l1Offset) > x.f.Size()-int64(h.l1Entries)*8 {
		return nil
	}
	c := &copiedCheck{examination: x}
	return x.eachEntry(int64(h.l1Offset), int64(h.l1Entries)*8, 8, func(i int64, b []byte) error {
		entry := binary.BigEndian.Uint64(b)
		table := int64(entry & offsetMask)
		if !x.inside(table, h.cluster()) || table > x.f.Size()-h.cluster() {
			return nil
		}
		if x.l2[table] > 1 && c.shared(table) {
			return nil
		}
		return c.table(table, int64(h.l1Offset)+i*8, entry)
	})
}

// copiedCheck remembers the refcount block used last, and the tables that were looked at though several entries name them.
type copiedCheck struct {
	*examination
	seen   map[int64]bool
	number int64
	block  []byte
}

// shared reports whether the L2 table was looked at before.
func (c *copiedCheck) shared(table int64) bool {
	if c.seen == nil {
		c.seen = map[int64]bool{}
	}
	before := c.seen[table]
	c.seen[table] = true
	return before
}

// table examines the L2 table that the entry at the given offset names, and its entries.
func (c *copiedCheck) table(table, at int64, entry uint64) error {
	if table != 0 {
		if err := c.entry(at, entry); err != nil {
			return err
		}
	}
	size := c.file.l2EntrySize()
	return c.eachEntry(table, c.file.cluster(), size, func(i int64, b []byte) error {
		entry := binary.BigEndian.Uint64(b)
		if entry&l2Compressed != 0 || entry&offsetMask == 0 || c.file.external() {
			return nil
		}
		return c.entry(table+i*size, entry)
	})
}

// entry examines the flag of one entry.
func (c *copiedCheck) entry(at int64, entry uint64) error {
	host := int64(entry & offsetMask)
	if !c.inside(host, c.file.cluster()) {
		return nil // reported before
	}
	n := host / c.file.cluster()
	if c.block == nil || n/c.perBlock() != c.number {
		c.number = n / c.perBlock()
		var err error
		if c.block, err = c.refcountBlock(c.number); err != nil {
			return err
		}
	}
	if got := refcount(c.block, n%c.perBlock(), c.file.refcountOrder); (got == 1) != (entry&copied != 0) {
		c.find(image.Corruption, at, "the entry %#x says that its cluster is shared, or is not; its refcount is %d", entry, got)
	}
	return nil
}
