package qcow2

import (
	"cmp"

	"github.com/klauspost/compress/zstd"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/internal/deflate"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// deflateEncoder makes zlib clusters, which in spite of the name have neither zlib's header nor its checksum.
type deflateEncoder struct {
	deflate *deflate.Compressor
	cluster int
	limited bool // references must not reach as far as deflate's can
}

// newDeflateEncoder makes an encoder whose streams refer back at most window bytes, or as far as deflate can if that is 0.
func newDeflateEncoder(level, window int, cluster int64) (image.Encoder, error) {
	d, err := deflate.NewWindowCompressor(level, cmp.Or(window, deflate.MaxWindow))
	if err != nil {
		return nil, fault.As(fault.InvalidArgument, err, "qcow2")
	}
	return &deflateEncoder{d, int(cluster), window != 0 && window < deflate.MaxWindow}, nil
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

// Wrap appends the stream as it is. One that is not smaller than its cluster, or whose references may reach too far, is left to Encode.
func (e *deflateEncoder) Wrap(dst []byte, c image.Chunk, _ []byte) ([]byte, bool) {
	if c.Deflate == nil || e.limited || len(c.Deflate) >= e.cluster {
		return dst, false
	}
	return append(dst, c.Deflate...), true
}

// zstdEncoder makes zstd clusters: one frame each.
type zstdEncoder struct {
	z       *zstd.Encoder
	cluster int
}

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
	return &zstdEncoder{z, int(cluster)}, nil
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

// Wrap appends the frame as it is. A frame that is not smaller than its cluster is left to Encode.
func (e *zstdEncoder) Wrap(dst []byte, c image.Chunk, _ []byte) ([]byte, bool) {
	n, ok := zstdFrame(c.Zstd)
	if !ok || n >= e.cluster {
		return dst, false
	}
	return append(dst, c.Zstd[:n]...), true
}
