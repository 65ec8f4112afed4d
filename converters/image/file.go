package image

import (
	"io"
	"io/fs"
	"os"
	"sync/atomic"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// File is an image's own file as an opener sees it. A Reader made from it owns it and closes it.
type File interface {
	io.ReaderAt
	io.Closer
	// Size is the file's size in bytes when it was opened.
	Size() int64
	// Name is for messages.
	Name() string
}

// Backed is a File that is a local file. Blocks of it may be cloned.
type Backed interface {
	OS() *os.File
}

// Metered is a Reader or Stream that knows how many bytes of its source it has read. It may be asked from any goroutine.
type Metered interface {
	BytesRead() int64
}

// BytesRead returns how much source has read, or 0 if it does not count.
func BytesRead(source any) int64 {
	if m, ok := source.(Metered); ok {
		return m.BytesRead()
	}
	return 0
}

// LocalFile is a regular file or a block device. It counts what is read.
type LocalFile struct {
	f    *os.File
	size int64
	read atomic.Int64
}

var (
	_ File    = (*LocalFile)(nil)
	_ Backed  = (*LocalFile)(nil)
	_ Metered = (*LocalFile)(nil)
)

// NewLocalFile takes over f, unless it returns an error. Pipes, sockets, folders and character devices are refused.
func NewLocalFile(f *os.File) (*LocalFile, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, fault.Wrap(err, "open image")
	}
	if t := st.Mode().Type(); t != 0 && t != fs.ModeDevice {
		return nil, fault.New(fault.InvalidArgument, "%s: is neither a regular file nor a block device", f.Name())
	}
	// Of a block device Stat has no size; the end of the seekable range is right for both.
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, fault.Wrap(err, "%s: find the size", f.Name())
	}
	return &LocalFile{f: f, size: size}, nil
}

// ReadAt reads the file.
func (l *LocalFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := l.f.ReadAt(p, off)
	l.read.Add(int64(n))
	return n, err
}

// Close closes the file.
func (l *LocalFile) Close() error { return l.f.Close() }

// Size returns the size in bytes at opening.
func (l *LocalFile) Size() int64 { return l.size }

// Name returns the path the file was opened by.
func (l *LocalFile) Name() string { return l.f.Name() }

// OS returns the file itself.
func (l *LocalFile) OS() *os.File { return l.f }

// BytesRead returns how much was read so far.
func (l *LocalFile) BytesRead() int64 { return l.read.Load() }

// NewFile makes a File of anything that can be read at offsets. Close closes r if it is an io.Closer.
func NewFile(r io.ReaderAt, size int64, name string) File {
	return &memoryFile{ReaderAt: r, size: size, name: name}
}

type memoryFile struct {
	io.ReaderAt
	size int64
	name string
}

func (m *memoryFile) Size() int64  { return m.size }
func (m *memoryFile) Name() string { return m.name }

func (m *memoryFile) Close() error {
	if c, ok := m.ReaderAt.(io.Closer); ok {
		return c.Close()
	}
	return nil
}
