package vmdk

import (
	"encoding/binary"
	"errors"
	"sync"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/internal/mapped"
	"github.com/hyperplane-project/hyperplane/converters/internal/tables"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// reader reads a sparse extent that is a whole disk, by its grain tables.
type reader struct {
	f           image.File
	h           *header
	info        image.Info
	directories []int64 // offsets of the grain directories in the file, the preferred one first
	tables      *tables.Cache
	scratch     sync.Pool // *scratch
	check       func() error
}

var (
	_ image.ChunkReader = (*reader)(nil)
	_ image.Metered     = (*reader)(nil)
	_ mapped.Map        = (*reader)(nil)
)

func openSparse(f image.File, h *header) (image.Reader, error) {
	r := &reader{f: f, h: h, tables: tables.New(f)}
	r.check = sync.OnceValue(r.checkDirectories)
	r.info = image.Info{
		Format: "vmdk", Variant: "monolithicSparse", VirtualSize: h.size(), FileSize: f.Size(), ClusterSize: h.grain(),
	}
	if h.compressed() {
		r.info.Variant, r.info.Compression = "streamOptimized", "zlib"
	}
	if err := r.readDescriptor(); err != nil {
		return nil, err
	}
	if h.unclean {
		r.info.Warnings = append(r.info.Warnings, "vmdk: the file was not closed cleanly by the program that wrote it")
	}
	if h.directoryOffset == gdAtEnd {
		footer, err := readFooter(f, h)
		if err != nil {
			return nil, err
		}
		r.h = footer
	}
	return r, r.findDirectories()
}

const noDescriptor = "vmdk: the file has no descriptor: it is one extent of a disk of several files; open the disk's descriptor file instead"

// readDescriptor reads the embedded descriptor. An extent without one belongs to a disk of several files, save that some tools leave it out of
// streams.
func (r *reader) readDescriptor() error {
	h := r.h
	if h.descriptorOffset == 0 || h.descriptorSize == 0 {
		if h.compressed() {
			r.info.Warnings = append(r.info.Warnings, "vmdk: the file has no descriptor")
			return nil
		}
		return image.Referencef(noDescriptor)
	}
	if h.descriptorSize > maxDescriptor/sectorSize {
		return image.Limitf("vmdk: an embedded descriptor of %d sectors exceeds %d bytes", h.descriptorSize, maxDescriptor)
	}
	n := int64(h.descriptorSize) * sectorSize
	if h.descriptorOffset > uint64(r.f.Size()) || int64(h.descriptorOffset)*sectorSize > r.f.Size()-n {
		return image.Truncatedf("vmdk: the descriptor at sector %d reaches past the end of the file at %d", h.descriptorOffset, r.f.Size())
	}
	text := make([]byte, n)
	if err := image.ReadFull(r.f, text, int64(h.descriptorOffset)*sectorSize, "vmdk descriptor"); err != nil {
		return err
	}
	return checkEmbedded(text, h.compressed())
}

// checkEmbedded refuses an embedded descriptor that is none, or of a disk that is more than this file.
func checkEmbedded(text []byte, compressed bool) error {
	d, err := parseDescriptor(text)
	switch {
	case err != nil:
		return err
	case d.createType == "" && compressed:
		return image.Corruptf("vmdk: there is no descriptor where the header says")
	case d.createType == "":
		return image.Referencef(noDescriptor)
	}
	return d.checkSelfContained()
}

// footerSize is a footer's marker, the footer and the end marker.
const footerSize = 3 * sectorSize

// readFooter reads the copy of the header at the end of a stream, which knows where the grain directory is.
func readFooter(f image.File, h *header) (*header, error) {
	b := make([]byte, footerSize)
	if f.Size() < footerSize {
		return nil, image.Truncatedf("vmdk: the file ends before its footer")
	}
	if err := image.ReadFull(f, b, f.Size()-footerSize, "vmdk footer"); err != nil {
		return nil, err
	}
	if m := parseMarker(b); m.size != 0 || m.kind != markerFooter {
		return nil, image.Truncatedf("vmdk: there is no footer at offset %d, 1536 bytes before the end of the file", f.Size()-footerSize)
	}
	if m := parseMarker(b[2*sectorSize:]); m.size != 0 || m.kind != markerEnd {
		return nil, image.Truncatedf("vmdk: there is no end marker in the last sector of the file")
	}
	return parseFooter(b[sectorSize:], h)
}

// parseFooter decodes a footer and checks it against the header.
func parseFooter(b []byte, h *header) (*header, error) {
	footer, err := parseHeader(b)
	if errors.Is(err, image.ErrWrongFormat) {
		return nil, image.Corruptf("vmdk: the footer does not begin with the magic")
	}
	if err != nil {
		return nil, fault.Wrap(err, "vmdk footer")
	}
	if footer.capacity != h.capacity || footer.grainSize != h.grainSize || footer.tableEntries != h.tableEntries || footer.flags != h.flags {
		return nil, image.Corruptf("vmdk: header and footer disagree: capacity %d and %d sectors, grain %d and %d, table entries %d and %d, flags %#x and %#x",
			h.capacity, footer.capacity, h.grainSize, footer.grainSize, h.tableEntries, footer.tableEntries, h.flags, footer.flags)
	}
	if footer.directoryOffset == gdAtEnd {
		return nil, image.Corruptf("vmdk: the footer does not say where the grain directory is")
	}
	return footer, nil
}

// maxDirectoryBytes bounds the grain directory: 32 MiB are 256 TiB of 64 KiB grains.
const maxDirectoryBytes = 32 << 20

// findDirectories chooses which grain directories are used. The redundant one steps in where the primary one, or a table it names, is not inside the
// file.
func (r *reader) findDirectories() error {
	size := r.h.directoryEntries() * 4
	if size > maxDirectoryBytes {
		return image.Limitf("vmdk: a disk of %d sectors has a grain directory of %d bytes, more than %d", r.h.capacity, size, maxDirectoryBytes)
	}
	add := func(sector uint64) bool {
		if sector == 0 || sector > uint64(r.f.Size())/sectorSize || int64(sector)*sectorSize > r.f.Size()-size {
			return false
		}
		r.directories = append(r.directories, int64(sector)*sectorSize)
		return true
	}
	primary := add(r.h.directoryOffset)
	redundant := r.h.flags&flagRedundant != 0 && add(r.h.redundantOffset)
	switch {
	case primary || r.h.capacity == 0:
		return nil
	case redundant:
		r.info.Warnings = append(r.info.Warnings, "vmdk: the grain directory is not inside the file; the redundant one is used")
		return nil
	default:
		return image.Truncatedf("vmdk: the grain directory of %d bytes at sector %d reaches past the end of the file at %d", size, r.h.directoryOffset, r.f.Size())
	}
}

// checkDirectories refuses a grain directory that names more grain tables than the file has room for: such tables are shared, which makes a small file a disk whose
// map takes hours to walk. It is done when the map is first used: opening reads little.
func (r *reader) checkDirectories() error {
	for _, directory := range r.directories {
		named, err := r.tables.CountSet(directory, r.h.directoryEntries()*4, 4)
		if err != nil {
			return err
		}
		if room := r.f.Size() / r.h.tableSize(); named > room {
			return image.Corruptf("vmdk: the grain directory names %d grain tables, the file has room for %d", named, room)
		}
	}
	return nil
}

// Info describes the image.
func (r *reader) Info() image.Info { return r.info }

// BytesRead returns how much of the file was read, or 0 if it does not count.
func (r *reader) BytesRead() int64 {
	if m, ok := r.f.(image.Metered); ok {
		return m.BytesRead()
	}
	return 0
}

// Close closes the file.
func (r *reader) Close() error { return r.f.Close() }

// ReadAt reads the disk.
func (r *reader) ReadAt(p []byte, off int64) (int, error) {
	return mapped.ReadAt(r, r.info.VirtualSize, p, off)
}

// NextExtent returns the run that begins at off.
func (r *reader) NextExtent(off int64) (image.Extent, error) {
	if err := image.CheckOffset(off, r.info.VirtualSize); err != nil {
		return image.Extent{}, err
	}
	return r.Extent(off, r.info.VirtualSize-off)
}

// Extent returns the run that begins at off, no longer than limit.
func (r *reader) Extent(off, limit int64) (image.Extent, error) {
	if err := r.check(); err != nil {
		return image.Extent{}, err
	}
	return mapped.Merge(r.piece, off, limit)
}

// piece looks up what is at off.
func (r *reader) piece(off int64) (mapped.Piece, error) {
	table, err := r.table(off / r.h.cover())
	if err != nil {
		return mapped.Piece{}, err
	}
	if table == 0 {
		return mapped.Piece{Kind: image.Hole, Host: -1, N: r.h.cover() - off%r.h.cover()}, nil
	}
	entry, err := r.entry(table, off)
	if err != nil {
		return mapped.Piece{}, err
	}
	in := off % r.h.grain()
	n := r.h.grain() - in
	switch {
	case entry == 0:
		return mapped.Piece{Kind: image.Hole, Host: -1, N: n}, nil
	case entry == 1 && r.h.flags&flagZeroGrain != 0:
		return mapped.Piece{Kind: image.Zero, Host: -1, N: n}, nil
	case r.h.compressed():
		return mapped.Piece{Kind: image.Data, Compressed: true, Host: -1, N: n}, nil
	}
	host := int64(entry)*sectorSize + in
	// The last grain of the disk may be cut off where the disk ends.
	if need := min(n, r.info.VirtualSize-off); host > r.f.Size()-need {
		return mapped.Piece{}, image.Truncatedf("vmdk: the content of offset %d is at offset %d, past the end of the file at %d", off, host, r.f.Size())
	}
	return mapped.Piece{Kind: image.Data, Host: host, In: r.f, N: n}, nil
}

// entry returns the grain table's entry for off: the sector of the grain.
func (r *reader) entry(table, off int64) (uint32, error) {
	b, err := r.tables.From(table, r.h.tableSize(), off%r.h.cover()/r.h.grain(), 4)
	if err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint32(b), nil
}

// table returns the offset in the file of grain table i, or 0 if there is none.
func (r *reader) table(i int64) (int64, error) {
	var off int64
	for _, directory := range r.directories {
		b, err := r.tables.From(directory, r.h.directoryEntries()*4, i, 4)
		if err != nil {
			return 0, err
		}
		if off = int64(binary.LittleEndian.Uint32(b)) * sectorSize; off <= r.f.Size()-r.h.tableSize() {
			return off, nil
		}
	}
	return 0, image.Truncatedf("vmdk: grain table %d at offset %d reaches past the end of the file at %d", i, off, r.f.Size())
}
