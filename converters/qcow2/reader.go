package qcow2

import (
	"errors"
	"io"
	"sync"

	"github.com/klauspost/compress/zstd"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/internal/mapped"
	"github.com/hyperplane-project/hyperplane/converters/internal/tables"
)

// Format returns the format's entry for the list of formats.
func Format() image.Format {
	return image.Format{Name: "qcow2", Open: Open, Create: Create}
}

// reader reads an image of one file.
type reader struct {
	f       image.File
	h       *header
	info    image.Info
	tables  *tables.Cache
	zstd    *zstd.Decoder // nil unless the image is compressed with zstd
	scratch sync.Pool     // *scratch
	l1Check func() error
}

var (
	_ image.ChunkReader = (*reader)(nil)
	_ image.Metered     = (*reader)(nil)
	_ mapped.Map        = (*reader)(nil)
)

// Open reads f as a qcow2 image. Images with a backing file or an external data file are refused with an error that wraps
// image.ErrReference, encrypted ones with image.ErrEncrypted. Dirty, corrupt-marked and snapshotted images are read, with a warning.
func Open(f image.File, o image.OpenOptions) (image.Reader, error) {
	b := make([]byte, headerWithCompression)
	n, err := f.ReadAt(b, 0)
	if err != nil && n < len(b) && !errors.Is(err, io.EOF) {
		return nil, err
	}
	h, err := parseHeader(b[:n])
	if err != nil {
		return nil, err
	}
	r := &reader{f: f, h: h, tables: tables.New(f)}
	r.l1Check = sync.OnceValue(r.checkL1)
	r.info = image.Info{
		Format: "qcow2", VirtualSize: int64(h.size), FileSize: f.Size(), ClusterSize: h.cluster(), Variant: "v2", Compression: "zlib",
	}
	if h.version == 3 {
		r.info.Variant = "v3"
	}
	if h.compression == compressZstd {
		r.info.Compression = "zstd"
	}
	if err := h.references(f, &r.info); err != nil {
		return nil, err
	}
	if refs := r.info.References; len(refs) > 0 {
		return nil, image.Referencef("qcow2: the image needs its %s %q, and other files are not opened; flatten it first: qemu-img convert",
			kindName(refs[0].Kind), refs[0].Name)
	}
	if err := h.checkTables(f.Size()); err != nil {
		return nil, err
	}
	return r, r.startZstd()
}

// checkTables refuses a file that ends before tables its header names. Refcounts are not needed for reading, but a file without them was cut off.
func (h *header) checkTables(file int64) error {
	if size := int64(h.l1Needed()) * 8; int64(h.l1Offset) > file-size {
		return image.Truncatedf("qcow2: L1 table of %d bytes at offset %d reaches past the end of the file at %d", size, h.l1Offset, file)
	}
	if size := int64(h.refClusters) * h.cluster(); h.refcounts > uint64(file) || int64(h.refcounts) > file-size {
		return image.Truncatedf("qcow2: refcount table of %d bytes at offset %d reaches past the end of the file at %d", size, h.refcounts, file)
	}
	return nil
}

// checkL1 refuses an L1 table that names more L2 tables than the file has clusters. Such tables share L2 tables, which makes a small file a disk whose map takes hours
// to walk. It is done when the map is first used: opening reads little.
func (r *reader) checkL1() error {
	named, err := r.tables.CountSet(int64(r.h.l1Offset), int64(r.h.l1Needed())*8, 8)
	if err != nil {
		return err
	}
	if clusters := r.f.Size() / r.h.cluster(); named > clusters {
		return image.Corruptf("qcow2: the L1 table names %d L2 tables, the file has only %d clusters", named, clusters)
	}
	return nil
}

func kindName(kind string) string {
	if kind == "backing" {
		return "backing file"
	}
	return "external data file"
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
func (r *reader) Close() error {
	if r.zstd != nil {
		r.zstd.Close()
	}
	return r.f.Close()
}

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
