package volume

import (
	"github.com/hyperplane-project/hyperplane/converters/image"
)

// zeros is a disk of nothing.
type zeros int64

func (z zeros) Info() image.Info {
	return image.Info{Format: "raw", VirtualSize: int64(z), FileSize: -1}
}
func (z zeros) Close() error { return nil }

func (z zeros) ReadAt(p []byte, off int64) (int, error) {
	if err := image.CheckOffset(off, int64(z)); err != nil {
		return 0, err
	}
	n := min(int64(len(p)), int64(z)-off)
	clear(p[:n])
	return int(n), nil
}

func (z zeros) NextExtent(off int64) (image.Extent, error) {
	if err := image.CheckOffset(off, int64(z)); err != nil {
		return image.Extent{}, err
	}
	return image.Extent{Off: off, Len: int64(z) - off, Kind: image.Hole, Host: -1}, nil
}

// grown is a disk with a hole behind its end, up to the given size.
type grown struct {
	image.Reader
	size int64
}

func (g grown) Info() image.Info {
	info := g.Reader.Info()
	info.VirtualSize = g.size
	return info
}

func (g grown) ReadAt(p []byte, off int64) (int, error) {
	if err := image.CheckOffset(off, g.size); err != nil {
		return 0, err
	}
	p = p[:min(int64(len(p)), g.size-off)]
	inside := g.Reader.Info().VirtualSize - off
	if inside <= 0 {
		clear(p)
		return len(p), nil
	}
	n, err := g.Reader.ReadAt(p[:min(int64(len(p)), inside)], off)
	if err != nil && int64(n) < inside && n < len(p) {
		return n, err
	}
	clear(p[n:])
	return len(p), nil
}

func (g grown) NextExtent(off int64) (image.Extent, error) {
	if off >= g.Reader.Info().VirtualSize {
		return zeros(g.size).NextExtent(off)
	}
	return g.Reader.NextExtent(off)
}
