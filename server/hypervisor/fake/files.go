package fake

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"os"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// sizeAt is where a QCOW2 header keeps the size of the disk (QEMU's docs/interop/qcow2.txt).
const sizeAt = 24

// growFile makes the disk in a file larger. Of a QCOW2 file only the header changes, which is enough as long as nobody reads what was added.
func growFile(file string, format hypervisor.DiskFormat, size uint64) (err error) {
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return fault.Wrap(err, "disk")
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return fault.Wrap(err, "disk")
	}
	now, field := uint64(info.Size()), make([]byte, 8)
	if format == hypervisor.DiskQCOW2 {
		if _, err := f.ReadAt(field, sizeAt); err != nil {
			return fault.Wrap(err, "disk %s", file)
		}
		now = binary.BigEndian.Uint64(field)
	}
	switch {
	case size < now:
		return fault.New(fault.InvalidArgument, "disk %s: has %d bytes and cannot shrink to %d while it is used", file, now, size)
	case format == hypervisor.DiskQCOW2:
		binary.BigEndian.PutUint64(field, size)
		_, err = f.WriteAt(field, sizeAt)
	default:
		err = f.Truncate(int64(size))
	}
	return fault.Wrap(err, "disk %s", file)
}

// diskSize is the size that a guest sees; 0 if there is no such file.
func diskSize(d hypervisor.Disk) uint64 {
	f, err := os.Open(d.File)
	if err != nil {
		return 0
	}
	defer f.Close() //nolint:errcheck // only read
	field := make([]byte, 8)
	if d.Format == hypervisor.DiskQCOW2 {
		if _, err := f.ReadAt(field, sizeAt); err != nil {
			return 0
		}
		return binary.BigEndian.Uint64(field)
	}
	info, err := f.Stat()
	if err != nil {
		return 0
	}
	return uint64(info.Size())
}

// copyFile makes the file to with the content of from, or nothing.
func copyFile(ctx context.Context, from, to string, progress func(done, total uint64)) (err error) {
	src, err := os.Open(from)
	if err != nil {
		return fault.Wrap(err, "copy")
	}
	defer src.Close() //nolint:errcheck // only read
	info, err := src.Stat()
	if err != nil {
		return fault.Wrap(err, "copy")
	}
	dst, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return fault.New(fault.AlreadyExists, "the file %s exists", to)
	}
	if err != nil {
		return fault.Wrap(err, "copy")
	}
	defer func() {
		if err = errors.Join(err, dst.Close()); err != nil {
			err = errors.Join(err, os.Remove(to))
		}
	}()
	for total := info.Size(); ; {
		if err := ctx.Err(); err != nil {
			return fault.Wrap(err, "copy")
		}
		_, err := io.CopyN(dst, src, 1<<20)
		if progress != nil {
			at, _ := src.Seek(0, io.SeekCurrent) // a figure for people
			progress(uint64(at), uint64(total))
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fault.Wrap(err, "copy")
		}
	}
}
