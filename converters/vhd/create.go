package vhd

import (
	"crypto/rand"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// creator is the creator application of what is written here. It is Windows', for that is the one whose geometry no reader prefers to the size in bytes:
// QEMU before version 10 has a list of such creators and goes by the geometry for all others.
const creator = "win "

// Create begins a VHD in out: "dynamic", which is the default, or "fixed". The disk's size is kept exactly, rounded up to 512 bytes; Azure wants fixed
// disks of whole MiB, which is the caller's to see to. ClusterSize is the block size of a dynamic disk, 2 MiB or 512 KiB, the two that Windows makes.
func Create(out image.Output, o image.CreateOptions) (image.Writer, error) {
	fixedDisk := o.Variant == fixed.String()
	if err := o.Check("vhd", image.Abilities{Variants: []string{dynamic.String(), fixed.String()}, Clusters: !fixedDisk}); err != nil {
		return nil, err
	}
	size, err := o.RoundedSize()
	if err != nil {
		return nil, err
	}
	if size > maxWritten {
		return nil, image.Limitf("vhd: a disk of %d bytes exceeds %d (2040 GiB); write a vhdx", size, int64(maxWritten))
	}
	id := o.ContentID
	if id == [16]byte{} {
		_, _ = rand.Read(id[:]) // it never fails
	}
	foot := footer{version: version, dataOffset: noOffset, creator: creator, size: uint64(size), geometry: newGeometry(size), kind: fixed, id: id}
	if fixedDisk {
		return &fixedWriter{out, foot}, nil
	}
	foot.kind, foot.dataOffset = dynamic, footerSize
	return newDynamicWriter(out, foot, o.ClusterSize)
}

// fixedWriter writes a fixed disk: the disk as it is, with holes for zeros, and the footer.
type fixedWriter struct {
	out  image.Output
	foot footer
}

var (
	_ image.Placer    = (*fixedWriter)(nil)
	_ image.Forwarder = (*fixedWriter)(nil)
)

// fixedUnit is the smallest run of zeros left out of the file: a block of the usual file systems.
const fixedUnit = 4096

// Unit returns the granularity of zeros.
func (w *fixedWriter) Unit() int64 { return fixedUnit }

// Forward does nothing: the disk comes in order and the footer is last.
func (w *fixedWriter) Forward() error { return nil }

// Place returns off: the file's offsets are the disk's.
func (w *fixedWriter) Place(off, n int64) (host, placed int64, err error) { return off, n, nil }

// Finish writes the footer.
func (w *fixedWriter) Finish() error {
	size := int64(w.foot.size)
	if err := fault.Wrap(w.out.Truncate(size), "vhd: set the file's size to %d bytes", size); err != nil {
		return err
	}
	return writeAt(w.out, w.foot.encode(), size)
}

func writeAt(out image.Output, b []byte, off int64) error {
	_, err := out.WriteAt(b, off)
	return fault.Wrap(err, "vhd: write metadata at offset %d", off)
}
