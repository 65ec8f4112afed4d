package qcow

import (
	"encoding/binary"
	"sync"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/internal/mapped"
	"github.com/hyperplane-project/hyperplane/converters/internal/overlay"
	"github.com/hyperplane-project/hyperplane/converters/internal/tables"
)

// Format returns the format's entry for the list of formats.
func Format() image.Format {
	return image.Format{Name: "qcow", Open: Open}
}

// reader reads the clusters of one file.
type reader struct {
	f       image.File
	h       *header
	info    image.Info
	tables  *tables.Cache
	scratch sync.Pool // *scratch
	l1Check func() error
}

var (
	_ image.Reader  = (*reader)(nil)
	_ image.Metered = (*reader)(nil)
	_ mapped.Map    = (*reader)(nil)
)

// Open reads f as a qcow image of version 1. A backing file is opened through o. The format does not say of which format that is, so References
// that do not know it refuse.
func Open(f image.File, o image.OpenOptions) (image.Reader, error) {
	h, err := readHeader(f)
	if err != nil {
		return nil, err
	}
	if err := o.RefuseSnapshot("qcow"); err != nil {
		return nil, err
	}
	r := &reader{f: f, h: h, tables: tables.New(f)}
	r.l1Check = sync.OnceValue(r.checkL1)
	r.info = image.Info{
		Format: "qcow", VirtualSize: h.size, FileSize: f.Size(), ClusterSize: h.cluster(), Compression: "zlib",
	}
	name, err := h.backing(f)
	if err != nil || name == "" {
		return r, err
	}
	ref := image.Reference{Kind: "backing", Name: name}
	r.info.References = []image.Reference{ref}
	if o.InfoOnly {
		return r, nil
	}
	parent, err := o.OpenImage(ref, "")
	if err != nil {
		return nil, err
	}
	return overlay.New(r, parent), nil
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
	if err := r.l1Check(); err != nil {
		return image.Extent{}, err
	}
	return mapped.Merge(r.piece, off, limit)
}

const (
	sectorSize   = 512
	l2Compressed = 1 << 63
)

// piece looks up what is at off.
func (r *reader) piece(off int64) (mapped.Piece, error) {
	entry, covered, err := r.entry(off)
	if err != nil {
		return mapped.Piece{}, err
	}
	in := off & (r.h.cluster() - 1)
	n := r.h.cluster() - in
	switch {
	case !covered:
		return mapped.Piece{Kind: image.Hole, Host: -1, N: r.h.cover() - off%r.h.cover()}, nil
	case entry == 0:
		return mapped.Piece{Kind: image.Hole, Host: -1, N: n}, nil
	case entry&l2Compressed != 0:
		return mapped.Piece{Kind: image.Data, Compressed: true, Host: -1, N: n}, nil
	case entry%sectorSize != 0:
		return mapped.Piece{}, image.Corruptf("qcow: L2 entry %#x for offset %d points to no sector", entry, off)
	}
	host := int64(entry)
	if need := min(n, r.h.size-off); host > r.f.Size()-in-need {
		return mapped.Piece{}, image.Truncatedf("qcow: the content of offset %d is at offset %d, past the end of the file at %d", off, host, r.f.Size())
	}
	return mapped.Piece{Kind: image.Data, Host: host + in, In: r.f, N: n}, nil
}

// entry returns the L2 entry for off; covered is false if there is no L2 table.
func (r *reader) entry(off int64) (entry uint64, covered bool, err error) {
	i := off / r.h.cover()
	b, err := r.tables.From(r.h.l1Offset, r.h.l1Size(), i, 8)
	if err != nil {
		return 0, false, err
	}
	table := binary.BigEndian.Uint64(b)
	if table == 0 {
		return 0, false, nil
	}
	if size := r.h.tableSize(); table > uint64(r.f.Size()) || int64(table) > r.f.Size()-size {
		return 0, false, image.Truncatedf("qcow: L2 table %d of %d bytes at offset %d reaches past the end of the file at %d", i, size, table, r.f.Size())
	}
	if b, err = r.tables.From(int64(table), r.h.tableSize(), off%r.h.cover()>>r.h.clusterBits, 8); err != nil {
		return 0, false, err
	}
	return binary.BigEndian.Uint64(b), true, nil
}

// checkL1 refuses an L1 table that names more L2 tables than the file has room for. Such tables are shared, which makes a small file a disk whose
// map takes hours to walk. It is done when the map is first used: opening reads little.
func (r *reader) checkL1() error {
	if r.h.l1Entries == 0 {
		return nil
	}
	named, err := r.tables.CountSet(r.h.l1Offset, r.h.l1Size(), 8)
	if err != nil {
		return err
	}
	if room := r.f.Size() / r.h.tableSize(); named > room {
		return image.Corruptf("qcow: the L1 table names %d L2 tables, the file has room for %d", named, room)
	}
	return nil
}
