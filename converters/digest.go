package converters

import (
	"context"
	"crypto/sha256"
	"hash"
	"io"

	"github.com/hyperplane-project/hyperplane/converters/image"
)

// step is how much is read or hashed between two looks at the context.
const step = 1 << 20

// Digest returns the SHA-256 of a disk's content, the same as Convert computes on the way.
func Digest(ctx context.Context, r image.Reader) (sum [sha256.Size]byte, err error) {
	h := sha256.New()
	if err := hashDisk(ctx, r, r.Info().VirtualSize, h); err != nil {
		return sum, err
	}
	h.Sum(sum[:0])
	return sum, nil
}

// hashDisk feeds the first size bytes of r to h.
func hashDisk(ctx context.Context, r image.Reader, size int64, h hash.Hash) error {
	buf, zeros := make([]byte, step), make([]byte, step)
	for off := int64(0); off < size; {
		e, err := r.NextExtent(off)
		if err != nil {
			return err
		}
		for end := min(off+e.Len, size); off < end; {
			if err := ctx.Err(); err != nil {
				return err
			}
			p := zeros[:min(step, end-off)]
			if e.Kind == image.Data {
				p = buf[:len(p)]
				if err := readAt(r, p, off); err != nil {
					return err
				}
			}
			h.Write(p)
			off += int64(len(p))
		}
	}
	return nil
}

// readAt fills p from off.
func readAt(r io.ReaderAt, p []byte, off int64) error {
	return image.ReadFull(r, p, off, "disk")
}
