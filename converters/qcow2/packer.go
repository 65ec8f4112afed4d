package qcow2

import (
	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// defaultLevel is the deflate level of clusters: with references over the whole 32 KiB it makes images as small as qemu-img's level 6 with its 4 KiB, in
// two thirds of level 6's time.
const defaultLevel = 4

// packer writes images of compressed clusters. Their streams lie one after the other, without regard to the clusters of the file; the refcount of a file's
// cluster is the number of streams that touch it. A cluster that does not get smaller is stored plain.
//
// Pieces are written as they come: what was appended is in the output, so that a later run can take it up.
type packer struct {
	*writer
	alloc  *allocator // writer.space
	level  int
	window int
	pos    int64 // where the next stream goes, if its cluster is the one allocated last
}

var (
	_ image.Restorer  = (*packer)(nil)
	_ image.Crowded   = (*packer)(nil)
	_ image.Zeroer    = (*packer)(nil)
	_ image.Forwarder = (*packer)(nil)
)

func newPacker(w *writer, o image.CreateOptions) (image.Writer, error) {
	p := &packer{writer: w, alloc: newAllocator(w, w.taken()), level: o.Level, window: o.Window}
	if o.Compression == "zlib" && o.Level == 0 && o.Window == 0 {
		p.level = defaultLevel
	}
	w.space = p.alloc
	w.zstd = o.Compression == "zstd"
	_, err := p.NewEncoder() // refuses a wrong level now rather than when the first cluster comes
	return p, err
}

// Forward refuses: the refcounts and the tables follow from the sizes of the compressed clusters.
func (p *packer) Forward() error {
	return image.Unsupportedf("qcow2: compressed clusters are not written front to back, for their sizes are not known before; " +
		"write a file, or an image without compression")
}

// Unit returns the cluster size.
func (p *packer) Unit() int64 { return p.cluster }

// Crowded says that zstd's encoders, whose tables take more than a MiB each, should not outnumber the processors: two more of them on two processors cost 8 %.
func (p *packer) Crowded() bool { return p.zstd }

// NewEncoder makes the state of one worker.
func (p *packer) NewEncoder() (image.Encoder, error) {
	if p.zstd {
		return newZstdEncoder(p.level, p.cluster)
	}
	return newDeflateEncoder(p.level, p.window, p.cluster)
}

// Append stores a cluster's stream, or the cluster itself if piece is a whole one.
func (p *packer) Append(off int64, piece []byte) error {
	host, err := p.allocate(off, int64(len(piece)))
	if err != nil {
		return err
	}
	_, err = p.out.WriteAt(piece, host)
	return fault.Wrap(err, "qcow2: write at offset %d", host)
}

// Restore takes note of a piece that lies in the output already.
func (p *packer) Restore(off int64, size int) error {
	_, err := p.allocate(off, int64(size))
	return err
}

// allocate finds room for the piece of n bytes that stands for the cluster at off, and notes it in the tables.
func (p *packer) allocate(off, n int64) (host int64, err error) {
	table, err := p.l2.get(off / p.cover())
	if err != nil {
		return 0, err
	}
	in := off % p.cover()
	i := in / p.cluster
	if table.entry(i) != 0 {
		return 0, fault.New(fault.Internal, "qcow2: the cluster at offset %d was written before", off)
	}
	if err := p.alloc.settle(); err != nil {
		return 0, err
	}
	if n == p.cluster {
		host = p.alloc.take(1)
		table.set(i, uint64(host)|copied)
		table.mark(in, n, false)
		return host, nil
	}
	host = p.pack(n)
	sectors := (host+n-1)/sectorSize - host/sectorSize
	offsetBits := 62 - (log2(p.cluster) - 8)
	table.set(i, uint64(host)|uint64(sectors)<<offsetBits|l2Compressed)
	return host, nil
}

// pack allocates n bytes: behind the stream before if its cluster is the one allocated last.
func (p *packer) pack(n int64) int64 {
	room := p.alloc.next - p.pos
	if room <= 0 || room >= p.cluster {
		p.pos = p.alloc.take(1)
	} else {
		p.alloc.share(p.alloc.next - p.cluster)
	}
	host := p.pos
	p.pos += n
	if p.pos > p.alloc.next {
		p.alloc.take(1)
	}
	return host
}

// Finish writes the tables and the header.
func (p *packer) Finish() error { return p.finish() }
