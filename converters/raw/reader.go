// Package raw is the format without a format: the file's bytes are the disk's bytes. Holes of the file are holes of the disk.
//
// A raw file has no magic, so nothing here can detect one: callers that detect formats try raw last, and callers that were told "raw" must
// not look at the content.
package raw

import (
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// Format returns the format's entry for the list of formats.
func Format() image.Format {
	return image.Format{Name: "raw", Open: Open, OpenStream: OpenStream, Create: Create}
}

// Open reads f as a raw disk. Any file is one. A size that is no multiple of 512 is kept as it is.
func Open(f image.File, o image.OpenOptions) (image.Reader, error) {
	if err := o.RefuseSnapshot("raw"); err != nil {
		return nil, err
	}
	return &reader{f}, nil
}

// OpenFile is Open for a file of the operating system: a regular file or a block device. The reader owns f from now on, unless an error
// is returned.
func OpenFile(f *os.File) (image.Reader, error) {
	l, err := image.NewLocalFile(f)
	if err != nil {
		return nil, err
	}
	return &reader{l}, nil
}

// New reads the first size bytes of r as a raw disk that is all data. Close closes r if it is an io.Closer.
func New(r io.ReaderAt, size int64) image.Reader {
	return &reader{image.NewFile(r, size, "raw")}
}

type reader struct{ f image.File }

var (
	_ image.Reader  = (*reader)(nil)
	_ image.Metered = (*reader)(nil)
)

// Info describes the disk.
func (r *reader) Info() image.Info {
	return image.Info{Format: "raw", VirtualSize: r.f.Size(), FileSize: r.f.Size()}
}

// BytesRead returns how much of the file was read, or 0 if it does not count.
func (r *reader) BytesRead() int64 { return image.BytesRead(r.f) }

// ReadAt reads the disk.
func (r *reader) ReadAt(p []byte, off int64) (int, error) {
	if rest := r.f.Size() - off; int64(len(p)) > rest {
		n, err := r.f.ReadAt(p[:max(rest, 0)], off)
		if err == nil {
			err = io.EOF
		}
		return n, err
	}
	return r.f.ReadAt(p, off)
}

// Close closes the file.
func (r *reader) Close() error { return r.f.Close() }

// NextExtent asks the file system where the next data or hole begins; without a file system all is data.
func (r *reader) NextExtent(off int64) (image.Extent, error) {
	size := r.f.Size()
	if err := image.CheckOffset(off, size); err != nil {
		return image.Extent{}, err
	}
	local, ok := r.f.(image.Backed)
	if !ok {
		return image.Extent{Off: off, Len: size - off, Kind: image.Data, Host: off, In: r.f}, nil
	}
	f := local.OS()
	data, err := seek(f, off, unix.SEEK_DATA, off, size)
	if err != nil {
		return image.Extent{}, err
	}
	if data > off {
		return image.Extent{Off: off, Len: data - off, Kind: image.Hole, Host: -1}, nil
	}
	hole, err := seek(f, off, unix.SEEK_HOLE, size, size)
	if err != nil {
		return image.Extent{}, err
	}
	return image.Extent{Off: off, Len: hole - off, Kind: image.Data, Host: off, In: r.f}, nil
}

// seek returns the next offset of the kind asked for, at most size. Devices and some file systems do not know; then it is unknown.
func seek(f *os.File, off int64, whence int, unknown, size int64) (int64, error) {
	n, err := unix.Seek(int(f.Fd()), off, whence)
	switch {
	case err == nil:
		return min(n, size), nil
	case errors.Is(err, unix.ENXIO): // nothing of that kind up to the end
		return size, nil
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOTSUP):
		return unknown, nil
	default:
		return 0, fault.Wrap(err, "%s: map the file at offset %d", f.Name(), off)
	}
}
