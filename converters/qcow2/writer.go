package qcow2

import (
	"encoding/binary"
	"iter"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

const (
	defaultCluster = 64 << 10
	sectorSize     = 512
	// refcountBits is the width of a refcount: order 4, QEMU's default.
	refcountOrder = 4
	refcountSize  = 2
)

// writer writes version 3 images whose clusters hold plain content.
//
// With the source's map known all tables come first, in the order header, L1, refcount table, refcount blocks, L2 tables, and clusters follow in the
// disk's order. Without it clusters and L2 tables are allocated as content arrives, and refcount blocks where their part of the file ends.
// The header is written last: a file that was not finished is no image.
type writer struct {
	out     image.Output
	size    int64 // of the disk, whole sectors
	cluster int64
	zstd    bool // the compression type is zstd
	l1At    int64
	l1      []uint64
	l2      l2Cache
	space   space
}

var (
	_ image.Placer  = (*writer)(nil)
	_ image.Planner = (*writer)(nil)
)

// Create begins a qcow2 image in out. CreateOptions.Compression "zlib" and "zstd" make an image of compressed clusters, "" one of plain clusters.
func Create(out image.Output, o image.CreateOptions) (image.Writer, error) {
	if o.Variant != "" && o.Variant != "v3" {
		return nil, image.Unsupportedf("qcow2: variant %q is not written; only v3", o.Variant)
	}
	cluster, err := chooseCluster(o)
	if err != nil {
		return nil, err
	}
	size, err := o.RoundedSize()
	if err != nil {
		return nil, err
	}
	w := &writer{out: out, size: size, cluster: cluster}
	entries := size / w.cover()
	if size%w.cover() != 0 {
		entries++
	}
	if entries > maxL1Bytes/8 {
		return nil, image.Limitf("qcow2: a disk of %d bytes in clusters of %d needs an L1 table of %d entries, more than %d; choose larger clusters",
			w.size, cluster, entries, maxL1Bytes/8)
	}
	w.l1 = make([]uint64, entries)
	w.l1At = cluster
	w.l2 = l2Cache{w: w, limit: max(2, l2Budget/cluster)}
	w.space = newAllocator(w, w.taken())
	if o.Compression == "" {
		return w, nil
	}
	return newPacker(w, o)
}

func chooseCluster(o image.CreateOptions) (int64, error) {
	n := o.ClusterSize
	if n == 0 {
		n = defaultCluster
		if u := o.SourceUnit; o.Compression != "" && u >= 1<<minClusterBits && u <= 1<<maxClusterBits && u&(u-1) == 0 {
			n = u
		}
	}
	if n < 1<<minClusterBits || n > 1<<maxClusterBits || n&(n-1) != 0 {
		return 0, fault.New(fault.InvalidArgument, "qcow2: cluster size %d is not a power of two between %d and %d", n, 1<<minClusterBits, 1<<maxClusterBits)
	}
	return n, nil
}

// cover returns how many bytes of the disk an L2 table maps.
func (w *writer) cover() int64 { return w.cluster / 8 * w.cluster }

// clusters returns how many clusters n bytes take.
func (w *writer) clusters(n int64) int64 { return (n + w.cluster - 1) / w.cluster }

// taken returns how many clusters the header and the L1 table take, which lead the file.
func (w *writer) taken() int64 { return 1 + w.clusters(int64(len(w.l1))*8) }

// Unit returns the cluster size.
func (w *writer) Unit() int64 { return w.cluster }

// Plan reserves room for all tables that the runs can need, in front of the clusters.
func (w *writer) Plan(runs iter.Seq2[image.Run, error]) error {
	var data, tables int64
	last := int64(-1) // the last L2 table counted
	for run, err := range runs {
		if err != nil {
			return err
		}
		data += run.Len / w.cluster
		first, end := run.Off/w.cover(), (run.Off+run.Len-1)/w.cover()
		tables += end - max(first, last+1) + 1
		last = end
	}
	w.space = newPlanned(w, w.taken(), tables, data)
	return nil
}

// Place allocates clusters for [off, off+n), as far as one L2 table maps it.
func (w *writer) Place(off, n int64) (host, placed int64, err error) {
	table, err := w.l2.get(off / w.cover())
	if err != nil {
		return 0, 0, err
	}
	first := off % w.cover() / w.cluster
	want := min(w.clusters(n), w.cluster/8-first)
	if old := table.entry(first); old != 0 {
		return int64(old & offsetMask), w.cluster, nil
	}
	fresh := int64(1)
	for fresh < want && table.entry(first+fresh) == 0 {
		fresh++
	}
	if host, err = w.space.data(fresh); err != nil {
		return 0, 0, err
	}
	for i := range fresh {
		table.set(first+i, uint64(host+i*w.cluster)|copied)
	}
	return host, fresh * w.cluster, nil
}

// Finish writes the tables and, last, the header.
func (w *writer) Finish() error {
	if err := w.l2.flush(); err != nil {
		return err
	}
	if err := w.writeAt(encodeTable(w.l1), w.l1At); err != nil {
		return err
	}
	table, size, err := w.space.finish()
	if err != nil {
		return err
	}
	if err := fault.Wrap(w.out.Truncate(w.space.end()), "qcow2: set the file's size to %d bytes", w.space.end()); err != nil {
		return err
	}
	return w.writeAt(w.header(table, size), 0)
}

// header returns the header, followed by the mark of no header extensions.
func (w *writer) header(refcountTable, refcountClusters int64) []byte {
	be := binary.BigEndian
	b := make([]byte, headerWithCompression+8)
	copy(b, magic)
	be.PutUint32(b[4:], 3)
	be.PutUint32(b[20:], uint32(log2(w.cluster)))
	be.PutUint64(b[24:], uint64(w.size))
	be.PutUint32(b[36:], uint32(len(w.l1)))
	be.PutUint64(b[40:], uint64(w.l1At))
	be.PutUint64(b[48:], uint64(refcountTable))
	be.PutUint32(b[56:], uint32(refcountClusters))
	be.PutUint32(b[96:], refcountOrder)
	be.PutUint32(b[100:], headerWithCompression)
	if w.zstd {
		be.PutUint64(b[72:], featureCompression)
		b[104] = compressZstd
	}
	return b
}

func (w *writer) writeAt(b []byte, off int64) error {
	_, err := w.out.WriteAt(b, off)
	return fault.Wrap(err, "qcow2: write metadata at offset %d", off)
}

func encodeTable(entries []uint64) []byte {
	b := make([]byte, 0, len(entries)*8)
	for _, e := range entries {
		b = binary.BigEndian.AppendUint64(b, e)
	}
	return b
}

func log2(n int64) (bits int) {
	for n > 1 {
		n >>= 1
		bits++
	}
	return bits
}
