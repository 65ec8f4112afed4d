package qcow2

import (
	"encoding/binary"
	"runtime"

	"github.com/klauspost/compress/zstd"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// maxZstdMemory bounds what a frame's header can make the decoder allocate: no cluster is larger than 2 MiB, and a window larger than eight
// of them has no use.
const maxZstdMemory = 16 << 20

func (r *reader) startZstd() error {
	if r.h.compression != compressZstd {
		return nil
	}
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(runtime.GOMAXPROCS(0)), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxMemory(maxZstdMemory), zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		return fault.As(fault.Internal, err, "qcow2: start the zstd decoder")
	}
	r.zstd = d
	return nil
}

func (r *reader) stopZstd() {
	if r.zstd != nil {
		r.zstd.Close()
	}
}

// decodeZstd decodes one cluster: exactly one frame, anything may follow it in its last sector. It returns the frame's length.
func (r *reader) decodeZstd(dst, data []byte, off int64) (int, error) {
	n, ok := zstdFrame(data)
	if !ok {
		return 0, image.Corruptf("qcow2: the compressed cluster for offset %d is no complete zstd frame", off)
	}
	out, err := r.zstd.DecodeAll(data[:n], dst[:0:len(dst)])
	if err != nil {
		return 0, image.Corruptf("qcow2: compressed cluster for offset %d: %v", off, err)
	}
	if len(out) != len(dst) {
		return 0, image.Corruptf("qcow2: the compressed cluster for offset %d holds %d bytes, not %d", off, len(out), len(dst))
	}
	return n, nil
}

// zstdFrame returns the length of the zstd frame at the start of b (RFC 8878, 3.1.1).
func zstdFrame(b []byte) (int, bool) {
	const frameMagic = 0xfd2fb528
	if len(b) < 5 || binary.LittleEndian.Uint32(b) != frameMagic {
		return 0, false
	}
	flags := b[4]
	single := flags >> 5 & 1
	n := 5 + int(1-single) + [4]int{0, 1, 2, 4}[flags&3]
	if size := flags >> 6; size > 0 || single == 1 {
		n += 1 << size
	}
	for {
		if n+3 > len(b) {
			return 0, false
		}
		head := uint32(b[n]) | uint32(b[n+1])<<8 | uint32(b[n+2])<<16
		n += 3
		if kind := head >> 1 & 3; kind == 1 {
			n++ // one byte that is repeated
		} else {
			n += int(head >> 3)
		}
		if head&1 == 1 {
			break
		}
	}
	if flags>>2&1 == 1 {
		n += 4 // checksum
	}
	return n, n <= len(b)
}
