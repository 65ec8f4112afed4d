package vdi

import (
	"encoding/binary"
	"sync"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/internal/bitset"
	"github.com/hyperplane-project/hyperplane/converters/internal/mapped"
	"github.com/hyperplane-project/hyperplane/converters/internal/tables"
)

// Format returns the format's entry for the list of formats.
func Format() image.Format {
	return image.Format{Name: "vdi", Open: Open, Create: Create}
}

// reader reads the blocks of one file. Of an image of differences it knows the child's blocks only.
type reader struct {
	f        image.File
	h        *header
	info     image.Info
	tables   *tables.Cache
	mapCheck func() error
}

var (
	_ image.Checker = (*reader)(nil)
	_ image.Metered = (*reader)(nil)
	_ mapped.Map    = (*reader)(nil)
)

// Open reads f as a VDI. An image of differences needs its parent, which it knows by UUID only: without References it is refused with an error that wraps
// image.ErrReference; with them the parent is asked for by the name VirtualBox gives to such files.
func Open(f image.File, o image.OpenOptions) (image.Reader, error) {
	h, err := readHeader(f)
	if err != nil {
		return nil, err
	}
	if err := o.RefuseSnapshot("vdi"); err != nil {
		return nil, err
	}
	r := &reader{f: f, h: h, tables: tables.New(f)}
	r.mapCheck = sync.OnceValue(r.checkMap)
	r.info = image.Info{
		Format: "vdi", Variant: h.variant(), VirtualSize: h.size, FileSize: f.Size(), ClusterSize: h.block, SectorSize: sectorSize,
		ContentID: textUUID(h.id),
	}
	if h.kind == kindDiff {
		return r.openDifferences(o)
	}
	return r, nil
}

// Info describes the image.
func (r *reader) Info() image.Info { return r.info }

// BytesRead returns how much of the file was read, or 0 if it does not count.
func (r *reader) BytesRead() int64 { return image.BytesRead(r.f) }

// Close closes the file.
func (r *reader) Close() error { return r.f.Close() }

// ReadAt reads the disk.
func (r *reader) ReadAt(p []byte, off int64) (int, error) {
	return mapped.ReadAt(r, r.h.size, p, off)
}

// NextExtent returns the run that begins at off.
func (r *reader) NextExtent(off int64) (image.Extent, error) {
	return mapped.NextExtent(r, r.h.size, off)
}

// Extent returns the run that begins at off, no longer than limit.
func (r *reader) Extent(off, limit int64) (image.Extent, error) {
	if err := r.mapCheck(); err != nil {
		return image.Extent{}, err
	}
	return mapped.Merge(r.piece, off, limit)
}

// ReadCompressed is never called: nothing is compressed.
func (r *reader) ReadCompressed([]byte, int64) error {
	return image.Unsupportedf("vdi: there are no compressed blocks")
}

// piece looks up what is at off.
func (r *reader) piece(off int64) (mapped.Piece, error) {
	i, in := off/r.h.block, off%r.h.block
	entry, err := r.entry(i)
	if err != nil {
		return mapped.Piece{}, err
	}
	n := r.h.block - in
	switch entry {
	case blockFree:
		return mapped.Piece{Kind: image.Hole, Host: -1, N: n}, nil
	case blockZero:
		return mapped.Piece{Kind: image.Zero, Host: -1, N: n}, nil
	}
	host := r.h.host(int64(entry)) + in
	// The file may end inside its last block, but not before the disk does.
	if need := min(n, r.h.size-off); host > r.f.Size()-need {
		return mapped.Piece{}, image.Truncatedf("vdi: block %d of the disk is at offset %d, past the end of the file at %d", i, host-in, r.f.Size())
	}
	return mapped.Piece{Kind: image.Data, Host: host, In: r.f, N: n}, nil
}

// entry returns entry i of the block map.
func (r *reader) entry(i int64) (uint32, error) {
	b, err := r.tables.From(r.h.mapAt, r.h.mapSize(), i, 4)
	if err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint32(b), nil
}

// checkMap refuses a map that names a block of the file twice: with it a small file is a disk of any size. It is done when the map is first used, for opening
// reads little.
func (r *reader) checkMap() error {
	var seen bitset.Set
	return r.eachBlock(func(i, block int64) error {
		switch added, full := seen.Add(block); {
		case full:
			return image.Limitf("vdi: the blocks of the file are too many, or too scattered, to be checked")
		case !added:
			return image.Corruptf("vdi: block %d of the disk has block %d of the file, which another one has too", i, block)
		}
		return nil
	})
}

// eachBlock calls fn for the blocks of the disk that have a block in the file.
func (r *reader) eachBlock(fn func(i, block int64) error) error {
	for i := int64(0); i < r.h.used(); {
		b, err := r.tables.From(r.h.mapAt, r.h.mapSize(), i, 4)
		if err != nil {
			return err
		}
		for ; len(b) >= 4 && i < r.h.used(); b, i = b[4:], i+1 {
			entry := binary.LittleEndian.Uint32(b)
			if entry == blockFree || entry == blockZero {
				continue
			}
			if err := fn(i, int64(entry)); err != nil {
				return err
			}
		}
	}
	return nil
}
