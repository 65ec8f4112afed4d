package libvirt

import (
	"encoding/binary"
	"errors"
	"io"
	"os"

	"libvirt.org/go/libvirtxml"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// Fields of a QCOW2 header (QEMU's docs/interop/qcow2.txt).
const (
	qcow2Magic        = "QFI\xfb"
	qcow2HeaderV3     = 104
	qcow2MaxBacking   = 1023       // the longest name of a backing file
	qcow2FormatName   = 0xe2792aca // the header extension with the backing file's format
	qcow2MaxExtension = 64 << 10
)

// backing is the file below an overlay. format is as QEMU calls it, raw if the overlay does not say.
type backing struct{ file, format string }

// readBacking reads from a QCOW2 file what it lies over.
func readBacking(overlay string) (backing, error) {
	f, err := os.Open(overlay)
	if err != nil {
		return backing{}, fault.As(fault.CodeOf(err), err, "overlay")
	}
	defer f.Close() //nolint:errcheck // only read
	b, err := parseBacking(f)
	return b, fault.Wrap(err, "overlay %s", overlay)
}

func parseBacking(r io.ReaderAt) (backing, error) {
	h := make([]byte, qcow2HeaderV3)
	if _, err := r.ReadAt(h, 0); err != nil || string(h[:4]) != qcow2Magic {
		return backing{}, fault.New(fault.InvalidArgument, "is no QCOW2 file of version 3")
	}
	at, size, length := binary.BigEndian.Uint64(h[8:]), binary.BigEndian.Uint32(h[16:]), binary.BigEndian.Uint32(h[100:])
	if binary.BigEndian.Uint32(h[4:]) != 3 || at == 0 || size == 0 || size > qcow2MaxBacking || at > 1<<40 {
		return backing{}, fault.New(fault.InvalidArgument, "is no QCOW2 file of version 3 that lies over another file")
	}
	name := make([]byte, size)
	if _, err := r.ReadAt(name, int64(at)); err != nil {
		return backing{}, fault.As(fault.DataLoss, err, "name of the backing file")
	}
	format, err := parseFormatExtension(r, int64(length))
	return backing{file: string(name), format: format}, err
}

// parseFormatExtension looks for the backing file's format among the header's extensions, which begin at off.
func parseFormatExtension(r io.ReaderAt, off int64) (string, error) {
	for range 64 {
		var head [8]byte
		if _, err := r.ReadAt(head[:], off); errors.Is(err, io.EOF) {
			return "raw", nil
		} else if err != nil {
			return "", err
		}
		kind, size := binary.BigEndian.Uint32(head[:]), binary.BigEndian.Uint32(head[4:])
		switch {
		case kind == 0 || size > qcow2MaxExtension:
			return "raw", nil
		case kind == qcow2FormatName:
			name := make([]byte, size)
			_, err := r.ReadAt(name, off+8)
			return string(name), fault.As(fault.DataLoss, err, "format of the backing file")
		}
		off += 8 + int64(size+7)/8*8
	}
	return "raw", nil
}

// checkOverlays refuses to take away an overlay that holds changes of a disk which the machine is to have: the guest would lose what it has written.
func checkOverlays(old *libvirtxml.Domain, s hypervisor.Spec) error {
	wanted := make(map[string]bool, len(s.Disks))
	for _, d := range s.Disks {
		wanted[d.File] = true
	}
	for _, d := range fileDisks(old) {
		if file := fileOf(d); !wanted[file] && formatOf(d) == hypervisor.DiskQCOW2 {
			if below, err := readBacking(file); err == nil && wanted[below.file] {
				return fault.New(fault.FailedPrecondition, "machine %q: disk %s is redirected to %s; merge it first", s.Name, below.file, file)
			}
		}
	}
	return nil
}
