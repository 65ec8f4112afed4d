package vmdk

import (
	"bytes"
	"sync"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/internal/mapped"
)

// grains finds the content of a sparse extent through its tables: the entries of the grain directory name grain tables, and theirs name grains. Hosted
// sparse, COWD and seSparse extents differ in what an entry says.
type grains struct {
	f           image.File
	caches      *caches
	entries     entries
	size        int64 // of the content, bytes
	grain       int64 // bytes
	perTable    int64 // entries of a grain table
	width       int64 // of an entry, bytes
	compressed  bool
	directories []int64 // offsets of the grain directory and its copy, the preferred one first
	warnings    []string
	check       func() error
}

// entries is what table entries of a kind of sparse extent mean.
type entries interface {
	// table returns the offset of the grain table that an entry of the grain directory stands for, or 0 if there is none.
	table(entry []byte) (int64, error)
	// lookup returns what an entry of a grain table stands for, and of data its offset in the file.
	lookup(entry []byte) (image.Kind, int64, error)
}

var _ content = (*grains)(nil)

// maxDirectoryBytes bounds the grain directory: 32 MiB are 256 TiB of 64 KiB grains, or 64 TiB of a seSparse extent, its most.
const maxDirectoryBytes = 32 << 20

// start makes the grains ready for use.
func (g *grains) start() error {
	if n := g.directorySize(); n > maxDirectoryBytes {
		return image.Limitf("vmdk: a disk of %d bytes has a grain directory of %d bytes, more than %d", g.size, n, maxDirectoryBytes)
	}
	g.check = sync.OnceValue(g.checkDirectories)
	return nil
}

// cover returns how many bytes of the disk a grain table maps.
func (g *grains) cover() int64 { return g.perTable * g.grain }

// tableSize returns the size of a grain table in bytes.
func (g *grains) tableSize() int64 { return g.perTable * g.width }

// directoryEntries returns how many grain tables the disk takes.
func (g *grains) directoryEntries() int64 { return ceil(g.size, g.cover()) }

func (g *grains) directorySize() int64 { return g.directoryEntries() * g.width }

// ceil returns a/b rounded up, for a that may be close to the largest number.
func ceil(a, b int64) int64 {
	n := a / b
	if a%b != 0 {
		n++
	}
	return n
}

// addDirectory notes a grain directory at the given sector, if it lies inside the file.
func (g *grains) addDirectory(sector uint64) bool {
	size := g.f.Size()
	if sector == 0 || sector > uint64(size)/sectorSize || int64(sector)*sectorSize > size-g.directorySize() {
		return false
	}
	g.directories = append(g.directories, int64(sector)*sectorSize)
	return true
}

// checkDirectories refuses a grain directory that names more grain tables than the file has room for: such tables are shared, which makes a small file a
// disk whose map takes hours to walk. It is done when the map is first used: opening reads little.
func (g *grains) checkDirectories() error {
	for _, directory := range g.directories {
		named, err := g.caches.of(g).CountSet(directory, g.directorySize(), g.width)
		if err != nil {
			return err
		}
		if room := g.f.Size() / g.tableSize(); named > room {
			return image.Corruptf("vmdk: the grain directory names %d grain tables, the file has room for %d", named, room)
		}
	}
	return nil
}

// Extent returns the run that begins at off, no longer than limit.
func (g *grains) Extent(off, limit int64) (image.Extent, error) {
	if err := g.check(); err != nil {
		return image.Extent{}, err
	}
	return mapped.Merge(g.piece, off, limit)
}

// piece looks up what is at off.
func (g *grains) piece(off int64) (mapped.Piece, error) {
	table, err := g.table(off / g.cover())
	if err != nil {
		return mapped.Piece{}, err
	}
	if table == 0 {
		return mapped.Piece{Kind: image.Hole, Host: -1, N: g.cover() - off%g.cover()}, nil
	}
	b, err := g.from(table, off)
	if err != nil {
		return mapped.Piece{}, err
	}
	kind, host, err := g.entries.lookup(b)
	if err != nil {
		return mapped.Piece{}, err
	}
	in := off % g.grain
	n := g.grain - in
	if kind == image.Hole {
		n = g.unused(b)*g.grain - in
	}
	if kind != image.Data || g.compressed {
		return mapped.Piece{Kind: kind, Compressed: kind == image.Data, Host: -1, N: n}, nil
	}
	host += in
	// The last grain of the disk may be cut off where the disk ends.
	if need := min(n, g.size-off); host > g.f.Size()-need {
		return mapped.Piece{}, image.Truncatedf("vmdk: the content of offset %d is at offset %d, past the end of the file at %d", off, host, g.f.Size())
	}
	return mapped.Piece{Kind: image.Data, Host: host, In: g.f, N: n}, nil
}

// tableWindow is how much of the file is read for a look at a grain table. Tables are small and mostly lie side by side.
const tableWindow = 64 << 10

// from returns the entries of a grain table from that of the grain at off on, at least one.
func (g *grains) from(table, off int64) ([]byte, error) {
	at, end := table+off%g.cover()/g.grain*g.width, table+g.tableSize()
	window := at / tableWindow * tableWindow
	b, err := g.caches.of(g).From(window, min(tableWindow, g.f.Size()-window), (at-window)/g.width, g.width)
	if err != nil {
		return nil, err
	}
	return b[:min(int64(len(b)), end-at)], nil
}

// unused returns how many entries at the beginning of b are zeros, which stands for a hole in all kinds of extent. Large disks have all their tables from
// the beginning, so one look has to tell of many grains.
func (g *grains) unused(b []byte) int64 {
	return int64(len(b)-len(bytes.TrimLeft(b, "\x00"))) / g.width
}

// host returns the offset in the file of the grain at off, or -1 if it has no content.
func (g *grains) host(table, off int64) (int64, error) {
	b, err := g.from(table, off)
	if err != nil {
		return 0, err
	}
	_, host, err := g.entries.lookup(b)
	return host, err
}

// table returns the offset in the file of grain table i, or 0 if there is none. A table that the grain directory puts outside the file is looked up in the
// directory's copy.
func (g *grains) table(i int64) (off int64, err error) {
	for _, directory := range g.directories {
		if off, err = g.tableIn(directory, i); err == nil {
			return off, nil
		}
	}
	return 0, err
}

func (g *grains) tableIn(directory, i int64) (int64, error) {
	b, err := g.caches.of(g).From(directory, g.directorySize(), i, g.width)
	if err != nil {
		return 0, err
	}
	off, err := g.entries.table(b)
	if err == nil && off > g.f.Size()-g.tableSize() {
		err = image.Truncatedf("vmdk: grain table %d at offset %d reaches past the end of the file at %d", i, off, g.f.Size())
	}
	if err != nil {
		return 0, err
	}
	return off, nil
}

// ReadCompressed is never called: only hosted extents are compressed, and those have their own.
func (g *grains) ReadCompressed([]byte, int64) error { return notCompressed() }

// describe adds what is known of the extent to its disk's description.
func (g *grains) describe(info *image.Info) {
	info.FileSize += g.f.Size()
	info.ClusterSize = max(info.ClusterSize, g.grain)
	info.Warnings = append(info.Warnings, g.warnings...)
}

// BytesRead returns how much of the file was read.
func (g *grains) BytesRead() int64 { return image.BytesRead(g.f) }

// Close closes the file.
func (g *grains) Close() error { return g.f.Close() }
