package qcow2

import (
	"github.com/klauspost/compress/zstd"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/internal/deflate"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// packBuffer is how much is collected before it is written.
const packBuffer = 1 << 20

// packer writes images of compressed clusters. Their streams lie one after the other, without regard to the clusters of the file; the refcount of a file's
// cluster is the number of streams that touch it. A cluster that does not get smaller is stored plain.
type packer struct {
	w     *writer
	alloc *allocator // w.space
	zstd  bool
	level int
	pos   int64  // where the next stream goes, if its cluster is the one allocated last
	buf   []byte // written at bufAt when full
	bufAt int64
}

var _ image.Appender = (*packer)(nil)

func newPacker(w *writer, o image.CreateOptions) (image.Writer, error) {
	p := &packer{w: w, alloc: newAllocator(w, w.taken()), level: o.Level, buf: make([]byte, 0, packBuffer)}
	w.space = p.alloc
	switch o.Compression {
	case "zlib":
	case "zstd":
		p.zstd, w.zstd = true, true
	default:
		return nil, image.Unsupportedf("qcow2: compression %q; choose zlib or zstd", o.Compression)
	}
	_, err := p.NewEncoder() // refuses a wrong level now rather than when the first cluster comes
	return p, err
}

// Unit returns the cluster size.
func (p *packer) Unit() int64 { return p.w.cluster }

// NewEncoder makes the state of one worker.
func (p *packer) NewEncoder() (image.Encoder, error) {
	if p.zstd {
		return newZstdEncoder(p.level, p.w.cluster)
	}
	d, err := deflate.NewCompressor(p.level)
	if err != nil {
		return nil, fault.As(fault.InvalidArgument, err, "qcow2")
	}
	return &deflateEncoder{d, int(p.w.cluster)}, nil
}

// deflateEncoder makes zlib clusters, which in spite of the name have neither zlib's header nor its checksum.
type deflateEncoder struct {
	deflate *deflate.Compressor
	cluster int
}

// Encode appends the deflate stream of a cluster, or the cluster itself if that is not larger.
func (e *deflateEncoder) Encode(dst, plain []byte) ([]byte, error) {
	start := len(dst)
	dst, err := e.deflate.Append(dst, plain)
	if err != nil {
		return nil, err
	}
	if len(dst)-start >= len(plain) {
		return append(dst[:start], plain...), nil
	}
	return dst, nil
}

// Wrap appends the stream as it is. A stream that is not smaller than its cluster is left to Encode.
func (e *deflateEncoder) Wrap(dst []byte, c image.Chunk, _ []byte) ([]byte, bool) {
	if c.Deflate == nil || len(c.Deflate) >= e.cluster {
		return dst, false
	}
	return append(dst, c.Deflate...), true
}

// zstdEncoder makes zstd clusters: one frame each.
type zstdEncoder struct{ z *zstd.Encoder }

func newZstdEncoder(level int, cluster int64) (image.Encoder, error) {
	if level < 0 || level > 9 {
		return nil, fault.New(fault.InvalidArgument, "qcow2: compression level %d is not between 1 and 9", level)
	}
	speed := zstd.SpeedDefault
	if level > 0 {
		speed = zstd.EncoderLevelFromZstd(level)
	}
	window := max(int(cluster), zstd.MinWindowSize)
	z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(speed), zstd.WithWindowSize(window),
		zstd.WithLowerEncoderMem(true), zstd.WithEncoderCRC(false))
	if err != nil {
		return nil, fault.As(fault.Internal, err, "qcow2: start the zstd encoder")
	}
	return &zstdEncoder{z}, nil
}

// Encode appends the frame of a cluster, or the cluster itself if that is not larger.
func (e *zstdEncoder) Encode(dst, plain []byte) ([]byte, error) {
	start := len(dst)
	dst = e.z.EncodeAll(plain, dst)
	if len(dst)-start >= len(plain) {
		return append(dst[:start], plain...), nil
	}
	return dst, nil
}

// Wrap refuses: the stream is deflate.
func (e *zstdEncoder) Wrap(dst []byte, _ image.Chunk, _ []byte) ([]byte, bool) { return dst, false }

// Append stores a cluster's stream, or the cluster itself if piece is a whole one.
func (p *packer) Append(off int64, piece []byte) error {
	table, err := p.w.l2.get(off / p.w.cover())
	if err != nil {
		return err
	}
	i := off % p.w.cover() / p.w.cluster
	if table.entry(i) != 0 {
		return fault.New(fault.Internal, "qcow2: the cluster at offset %d was written before", off)
	}
	if err := p.alloc.settle(); err != nil {
		return err
	}
	if int64(len(piece)) == p.w.cluster {
		host := p.alloc.take(1)
		table.set(i, uint64(host)|copied)
		return p.put(piece, host)
	}
	host := p.pack(int64(len(piece)))
	sectors := (host+int64(len(piece))-1)/sectorSize - host/sectorSize
	offsetBits := 62 - (log2(p.w.cluster) - 8)
	table.set(i, uint64(host)|uint64(sectors)<<offsetBits|l2Compressed)
	return p.put(piece, host)
}

// pack allocates n bytes: behind the stream before if its cluster is the one allocated last.
func (p *packer) pack(n int64) int64 {
	room := p.alloc.next - p.pos
	if room <= 0 || room >= p.w.cluster {
		p.pos = p.alloc.take(1)
	} else {
		p.alloc.share(p.alloc.next - p.w.cluster)
	}
	host := p.pos
	p.pos += n
	if p.pos > p.alloc.next {
		p.alloc.take(1)
	}
	return host
}

// put writes b at the offset. Pieces that adjoin are collected.
func (p *packer) put(b []byte, at int64) error {
	if at != p.bufAt+int64(len(p.buf)) || len(p.buf)+len(b) > cap(p.buf) {
		if err := p.flushBuffer(); err != nil {
			return err
		}
		p.bufAt = at
	}
	p.buf = append(p.buf, b...)
	return nil
}

func (p *packer) flushBuffer() error {
	if len(p.buf) == 0 {
		return nil
	}
	_, err := p.w.out.WriteAt(p.buf, p.bufAt)
	p.buf = p.buf[:0]
	return fault.Wrap(err, "qcow2: write at offset %d", p.bufAt)
}

// Finish writes what is left, the tables and the header.
func (p *packer) Finish() error {
	if err := p.flushBuffer(); err != nil {
		return err
	}
	return p.w.Finish()
}
