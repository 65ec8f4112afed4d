package vhdx

import (
	"encoding/binary"
	"fmt"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/internal/bitset"
)

// refuseOverlaps refuses a file two of whose blocks share room, or one of whose blocks lies on metadata: a few such blocks make a small file a large
// disk. It is done when the map is first used, for it reads the whole BAT.
func (r *reader) refuseOverlaps() error {
	l := layout{r: r, problem: func(at int64, text string) error { return image.Corruptf("vhdx: %s, at offset %d", text, at) }}
	return l.fill()
}

// layout notes which MiB of the file are used. Everything but the first MiB lies in whole MiB.
type layout struct {
	r    *reader
	used bitset.Set
	// problem is called for each block that is out of place; its error ends the walk.
	problem func(at int64, text string) error
	// invalid, if not nil, is called for each entry of the BAT that cannot be decoded.
	invalid func(i int64, err error) error
}

// fill notes the metadata and all blocks.
func (l *layout) fill() error {
	if _, err := l.take(0, mib); err != nil {
		return err
	}
	for _, g := range l.r.regions {
		if _, err := l.take(g.at, g.size); err != nil {
			return err
		}
	}
	return l.r.eachEntry(l.add)
}

// add notes the block or bitmap of entry i of the BAT.
func (l *layout) add(i int64, e uint64) error {
	d := l.r.disk
	isBitmap := i%(d.ratio()+1) == d.ratio()
	if isBitmap && !d.diff {
		return nil
	}
	what, at, err := l.r.decode(e, i)
	if err != nil {
		if l.invalid != nil {
			return l.invalid(i, err)
		}
		return nil // left to whoever reads the block
	}
	if what != present && what != partial {
		return nil
	}
	size := d.block
	if isBitmap {
		size = bitmapSize
	}
	fresh, err := l.take(at, size)
	if err != nil || fresh {
		return err
	}
	return l.problem(at, fmt.Sprintf("the block of BAT entry %d overlaps another block or metadata", i))
}

// take notes [at, at+n), as far as it is inside the file, and reports whether all of it was free.
func (l *layout) take(at, n int64) (fresh bool, err error) {
	fresh = true
	for end := min(at+n, l.r.f.Size()); at < end; at += mib {
		added, full := l.used.Add(at / mib)
		if full {
			return false, image.Limitf("vhdx: the file's %d bytes are too many to examine", l.r.f.Size())
		}
		if !added {
			return false, nil
		}
	}
	return fresh, nil
}

// eachEntry calls fn with each entry of the BAT that is not zero.
func (r *reader) eachEntry(fn func(i int64, e uint64) error) error {
	n := r.disk.entries()
	for i := int64(0); i < n; {
		b, err := r.tables.From(r.bat.at, n*8, i, 8)
		if err != nil {
			return err
		}
		for ; len(b) >= 8; b, i = b[8:], i+1 {
			if e := binary.LittleEndian.Uint64(b); e != 0 {
				if err := fn(i, e); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
