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

// reader reads an image, or one of its internal snapshots, without its backing file.
type reader struct {
	f       image.File
	data    image.File // where the clusters are: f, or the external data file
	file    *header    // as it is in the file
	h       *header    // of the state that is read
	ext     *extensions
	info    image.Info
	tables  *tables.Cache
	zstd    *zstd.Decoder // nil unless the image is compressed with zstd
	scratch sync.Pool     // *scratch
	l1Check func() error
}

var (
	_ image.ChunkReader = (*reader)(nil)
	_ image.Checker     = (*reader)(nil)
	_ image.Metered     = (*reader)(nil)
	_ mapped.Map        = (*reader)(nil)
)

// Open reads f as a qcow2 image, or an internal snapshot of it. A backing file and an external data file are opened through o; without References an
// image that has one is refused with an error that wraps image.ErrReference. Encrypted images are refused with image.ErrEncrypted. Dirty and
// corrupt-marked images are read, with a warning.
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
	r := &reader{f: f, data: f, file: h, h: h, tables: tables.New(f)}
	r.l1Check = sync.OnceValue(r.checkL1)
	r.info = image.Info{
		Format: "qcow2", Variant: h.variant(), FileSize: f.Size(), ClusterSize: h.cluster(), Compression: "zlib",
	}
	if h.compression == compressZstd {
		r.info.Compression = "zstd"
	}
	if err := r.prepare(o); err != nil {
		return nil, err
	}
	if o.InfoOnly {
		return r, nil
	}
	return r.start(o)
}

// prepare reads the rest of the metadata that opening needs, and chooses the state to read.
func (r *reader) prepare(o image.OpenOptions) error {
	if err := r.describe(); err != nil {
		return err
	}
	if err := r.chooseState(o.Snapshot); err != nil {
		return err
	}
	r.info.VirtualSize = int64(r.h.size)
	return r.h.checkTables(r.f.Size())
}

// start makes the reader able to read.
func (r *reader) start(o image.OpenOptions) (image.Reader, error) {
	if err := r.startZstd(); err != nil {
		return nil, err
	}
	whole, err := r.openReferences(o)
	if err != nil {
		r.stopZstd()
		return nil, err
	}
	return whole, nil
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

// checkL1 refuses an L1 table that names more L2 tables than the file has clusters. Such tables share L2 tables, which makes a small file a disk
// whose map takes hours to walk. It is done when the map is first used: opening reads little.
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

// Info describes the image.
func (r *reader) Info() image.Info { return r.info }

// BytesRead returns how much of the files was read, as far as they count it.
func (r *reader) BytesRead() int64 {
	n := image.BytesRead(r.f)
	if r.data != r.f {
		n += image.BytesRead(r.data)
	}
	return n
}

// Close closes the files.
func (r *reader) Close() error {
	r.stopZstd()
	return errors.Join(r.closeData(), r.f.Close())
}

// ReadAt reads the disk.
func (r *reader) ReadAt(p []byte, off int64) (int, error) {
	return mapped.ReadAt(r, r.info.VirtualSize, p, off)
}

// NextExtent returns the run that begins at off.
func (r *reader) NextExtent(off int64) (image.Extent, error) {
	return mapped.NextExtent(r, r.info.VirtualSize, off)
}
