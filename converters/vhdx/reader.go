package vhdx

import (
	"encoding/binary"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/internal/mapped"
	"github.com/hyperplane-project/hyperplane/converters/internal/tables"
)

// state is what an entry of the BAT says of a block ([MS-VHDX] 2.5.1.1).
type state uint8

// The states of blocks. A bitmap is either notPresent or present.
const (
	notPresent state = 0 // zeros, or the parent's
	undefined  state = 1 // anything: here zeros
	zero       state = 2
	unmapped   state = 3 // anything that was there once: here zeros
	present    state = 6
	partial    state = 7 // of a differencing disk: the bitmap says which sectors are there

	bitmapSize = mib
)

// reader reads a disk, or a differencing disk without its parent, whose content is a Hole.
type reader struct {
	f        image.File // with the changes of the log, if it has any
	headers  headers
	info     image.Info
	regions  []region // ascending, with the log
	bat      region
	disk     *disk
	parentID string       // DataWriteGuid of the parent
	plain    image.Reader // of a fixed disk the whole file, whose holes are the disk's; otherwise nil
	tables   *tables.Cache
	blocksOK func() error // checks once that blocks do not overlap
}

var (
	_ image.Checker = (*reader)(nil)
	_ image.Metered = (*reader)(nil)
	_ mapped.Map    = (*reader)(nil)
)

// Info describes the image.
func (r *reader) Info() image.Info { return r.info }

// BytesRead returns how much of the file was read, or 0 if it does not count.
func (r *reader) BytesRead() int64 { return image.BytesRead(r.f) }

// Close closes the file.
func (r *reader) Close() error { return r.f.Close() }

// ReadAt reads the disk.
func (r *reader) ReadAt(p []byte, off int64) (int, error) {
	return mapped.ReadAt(r, r.disk.size, p, off)
}

// NextExtent returns the run that begins at off. Of a fixed disk, all of whose blocks are in the file, the file's holes are zeros.
func (r *reader) NextExtent(off int64) (image.Extent, error) {
	if err := image.CheckOffset(off, r.disk.size); err != nil {
		return image.Extent{}, err
	}
	e, err := r.Extent(off, r.disk.size-off)
	if err != nil || r.plain == nil || e.Kind != image.Data {
		return e, err
	}
	p, err := r.plain.NextExtent(e.Host)
	e.Len = min(e.Len, p.Len)
	if p.Kind != image.Data {
		e.Kind, e.Host, e.In = image.Zero, -1, nil
	}
	return e, err
}

// Extent returns the run that begins at off, no longer than limit.
func (r *reader) Extent(off, limit int64) (image.Extent, error) {
	if err := r.blocksOK(); err != nil {
		return image.Extent{}, err
	}
	return mapped.Merge(r.piece, off, limit)
}

// ReadCompressed is never called: nothing is compressed.
func (r *reader) ReadCompressed([]byte, int64) error { return nil }

// piece looks up what is at off.
func (r *reader) piece(off int64) (mapped.Piece, error) {
	i, in := off/r.disk.block, off%r.disk.block
	what, at, err := r.entry(r.disk.payload(i))
	if err != nil {
		return mapped.Piece{}, err
	}
	n := r.disk.block - in
	switch what {
	case notPresent:
		return mapped.Piece{Kind: image.Hole, Host: -1, N: n}, nil
	case undefined, zero, unmapped:
		return mapped.Piece{Kind: image.Zero, Host: -1, N: n}, nil
	case present:
	case partial:
		here, run, err := r.sectors(i, off)
		if err != nil {
			return mapped.Piece{}, err
		}
		n = min(n, run)
		if !here {
			return mapped.Piece{Kind: image.Hole, Host: -1, N: n}, nil
		}
	default:
		return mapped.Piece{}, image.Corruptf("vhdx: block %d has state %d, which does not exist", i, what)
	}
	// The last block may be cut off where the disk ends.
	if need := min(n, r.disk.size-off); at > r.f.Size()-in-need {
		return mapped.Piece{}, image.Truncatedf("vhdx: the content of offset %d is at offset %d, past the end of the file at %d", off, at+in, r.f.Size())
	}
	return mapped.Piece{Kind: image.Data, Host: at + in, In: r.f, N: n}, nil
}

// entry returns entry i of the BAT: a state, and the offset in the file where the state is one of a block that is in the file.
func (r *reader) entry(i int64) (state, int64, error) {
	b, err := r.tables.From(r.bat.at, r.disk.entries()*8, i, 8)
	if err != nil {
		return 0, 0, err
	}
	return r.decode(binary.LittleEndian.Uint64(b), i)
}

// decode decodes entry i. The offset is in MiB in the upper 44 bits and means nothing in other states; the lower three bits are the state.
func (r *reader) decode(e uint64, i int64) (state, int64, error) {
	what, at := state(e&7), e&^(mib-1)
	if what != present && what != partial {
		return what, 0, nil
	}
	if what == partial && !r.disk.diff {
		return what, 0, image.Corruptf("vhdx: entry %d of the BAT has state %d, which only differencing disks have", i, what)
	}
	if at == 0 || at > maxFile {
		return what, 0, image.Corruptf("vhdx: entry %d of the BAT is %#x: no block lies at that offset", i, e)
	}
	return what, int64(at), nil
}

// sectors reports whether the sector at off, in block i, is in this file, and for how many bytes from off the same holds.
func (r *reader) sectors(i, off int64) (here bool, n int64, err error) {
	what, at, err := r.entry(r.disk.bitmap(i))
	if err != nil {
		return false, 0, err
	}
	if what != present {
		return false, 0, image.Corruptf("vhdx: block %d has a sector bitmap, which has state %d and not %d", i, what, present)
	}
	if at > r.f.Size()-bitmapSize {
		return false, 0, image.Truncatedf("vhdx: the sector bitmap at offset %d reaches past the end of the file at %d", at, r.f.Size())
	}
	sector := off % (r.disk.ratio() * r.disk.block) / r.disk.sector
	bits, err := r.tables.From(at, bitmapSize, sector/8, 1)
	if err != nil {
		return false, 0, err
	}
	here, run := runOfBits(bits, sector%8, r.disk.block/r.disk.sector)
	return here, run*r.disk.sector - off%r.disk.sector, nil
}

// runOfBits returns bit i of b, of which the first of a byte is the least significant, and how many bits from there are the same, up to about limit.
func runOfBits(b []byte, i, limit int64) (set bool, n int64) {
	set = b[i/8]>>(i%8)&1 == 1
	same := byte(0)
	if set {
		same = 0xff
	}
	for n = 1; n < limit && i+n < int64(len(b))*8; {
		next := i + n
		if next%8 == 0 && b[next/8] == same {
			n += 8
			continue
		}
		if (b[next/8]>>(next%8)&1 == 1) != set {
			break
		}
		n++
	}
	return set, n
}
