package vhd

import (
	"encoding/binary"
	"fmt"

	"github.com/hyperplane-project/hyperplane/converters/image"
)

// maxStarts is how many blocks of the file are looked at in one walk over the table: 16 MiB of memory. A file of 2 TiB with blocks of 512 KiB has as many.
const maxStarts = 4 << 20

// region is a part of the file that is no block.
type region struct {
	at, end int64
	what    string
}

// regions returns the places of the metadata. The footer at the end is not one: nothing reaches it.
func (r *sparseReader) regions() []region {
	all := []region{
		{0, footerSize, "the footer's copy"},
		{r.head.at, r.head.at + headerSize, "the header"},
		{r.head.tableAt, r.head.tableAt + r.head.needed(r.info.VirtualSize)*4, "the block allocation table"},
	}
	if r.foot.kind != differencing {
		return all
	}
	for _, l := range r.head.locators {
		if l.at <= uint64(r.end) {
			all = append(all, region{int64(l.at), min(r.end, int64(l.at)+int64(l.length)), "a parent locator"})
		}
	}
	return all
}

// refuseOverlaps refuses a file two of whose blocks share room, or one of whose blocks lies on metadata: a few such blocks make a small file a large
// disk. It is done when the map is first used, for it reads the whole table.
func (r *sparseReader) refuseOverlaps() error {
	l := layout{r: r, regions: r.regions(), problem: func(at int64, text string) error {
		return image.Corruptf("vhd: %s, at offset %d", text, at)
	}}
	return l.check()
}

// layout finds out where in the file blocks begin. The file is cut into slots of a block's size: two blocks can only overlap if they begin in one slot or
// in adjacent ones.
type layout struct {
	r       *sparseReader
	regions []region
	// problem is called for each block that is out of place; its error ends the check.
	problem func(at int64, text string) error
	// gap, if not nil, is called for the room between blocks, ascending.
	gap func(at, end int64)

	first  int64    // slot that starts[1] stands for
	starts []uint32 // for each slot the sector at which a block begins, or 0; starts[0] is the slot before
	past   int64    // end of the last block before the current slot, in bytes
}

// room returns how many bytes a block takes with its bitmap.
func (l *layout) room() int64 { return l.r.head.block + l.r.head.bitmapSize() }

func (l *layout) check() error {
	slots := min(l.r.end, unused*sectorSize)/l.room() + 1 // 32-bit sectors reach no further
	l.starts = make([]uint32, min(slots, maxStarts)+1)
	for l.first = 0; l.first < slots; l.first += maxStarts {
		before := l.starts[len(l.starts)-1]
		clear(l.starts)
		l.starts[0] = before
		if err := l.r.eachBlock(l.add); err != nil {
			return err
		}
		l.findGaps()
	}
	if l.gap != nil {
		l.gap(l.past, l.r.end)
	}
	return nil
}

// eachBlock calls fn with the number and the sector of each block that is in the file.
func (r *sparseReader) eachBlock(fn func(i int64, sector uint32) error) error {
	n := r.head.needed(r.info.VirtualSize)
	for i := int64(0); i < n; {
		b, err := r.tables.From(r.head.tableAt, n*4, i, 4)
		if err != nil {
			return err
		}
		for ; len(b) >= 4; b, i = b[4:], i+1 {
			if sector := binary.BigEndian.Uint32(b); sector != unused {
				if err := fn(i, sector); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// add takes note of a block if it begins in one of the slots that are looked at. A block that begins past the end is left to whoever reads it.
func (l *layout) add(i int64, sector uint32) error {
	at := int64(sector) * sectorSize
	slot := at/l.room() - l.first + 1
	if at >= l.r.end || slot < 1 || slot >= int64(len(l.starts)) {
		return nil
	}
	for _, m := range l.regions {
		if at < m.end && at+l.room() > m.at {
			return l.problem(at, fmt.Sprintf("block %d lies on %s", i, m.what))
		}
	}
	for _, other := range l.starts[slot-1 : min(slot+2, int64(len(l.starts)))] {
		if other != 0 && max(other, sector)-min(other, sector) < uint32(l.room()/sectorSize) {
			return l.problem(at, fmt.Sprintf("block %d overlaps another block", i))
		}
	}
	l.starts[slot] = sector
	return nil
}

// findGaps reports the room between the blocks of the current slots.
func (l *layout) findGaps() {
	if l.gap == nil {
		return
	}
	for _, sector := range l.starts[1:] {
		if sector != 0 {
			l.gap(l.past, int64(sector)*sectorSize)
			l.past = int64(sector)*sectorSize + l.room()
		}
	}
}
