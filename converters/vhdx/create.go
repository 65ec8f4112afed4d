package vhdx

import (
	"crypto/rand"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

const (
	// defaultBlock is the block size that is chosen for disks up to 8 TiB. Each worker of a copy holds a block, so the 32 MiB of Hyper-V's own tools would
	// cost memory; and small blocks leave more zeros out. Microsoft advises 1 MiB for disks of Linux guests.
	defaultBlock = 1 << 20
	// defaultEntries is how many blocks a disk has at most by default; larger disks have larger blocks.
	defaultEntries = 8 << 20
	// maxEntries bounds the blocks of a dynamic disk that is written: its BAT is kept in memory, four bytes a block.
	maxEntries = 16 << 20
)

// Create begins a VHDX in out: "dynamic", which is the default, or "fixed", with room for all blocks. ClusterSize is the block size, a power of two from 1 to
// 256 MiB. The disk's size is rounded up to 512 bytes, the file's to whole MiB.
func Create(out image.Output, o image.CreateOptions) (image.Writer, error) {
	if err := o.Check("vhdx", image.Abilities{Variants: []string{"dynamic", "fixed"}, Clusters: true}); err != nil {
		return nil, err
	}
	size, err := o.RoundedSize()
	if err != nil {
		return nil, err
	}
	if size > maxDisk {
		return nil, image.Limitf("vhdx: a disk of %d bytes exceeds %d (64 TiB)", size, int64(maxDisk))
	}
	block, err := chooseBlock(o.ClusterSize, size)
	if err != nil {
		return nil, err
	}
	w := base{out: out, disk: disk{size: size, block: block, sector: 512, allocated: o.Variant == "fixed"}, id: o.ContentID}
	if w.id == (guid{}) {
		_, _ = rand.Read(w.id[:]) // it never fails
	}
	if w.disk.allocated {
		return &fixedWriter{base: w}, nil
	}
	if n := w.disk.blocks(); n > maxEntries {
		return nil, image.Limitf("vhdx: a disk of %d bytes has %d blocks of %d, more than %d; choose larger blocks", size, n, block, maxEntries)
	}
	return &dynamicWriter{base: w, table: make([]uint32, w.disk.blocks())}, nil
}

func chooseBlock(block, size int64) (int64, error) {
	if block == 0 {
		block = defaultBlock
		for block*defaultEntries < size {
			block *= 2
		}
	}
	if block < minBlock || block > maxBlock || block&(block-1) != 0 {
		return 0, fault.New(fault.InvalidArgument, "vhdx: block size %d is not a power of two between %d and %d", block, minBlock, maxBlock)
	}
	return block, nil
}

// fixedWriter writes a fixed disk: all blocks are in the file, in the disk's order, with holes of the file for zeros.
type fixedWriter struct {
	base
	forward bool
}

var (
	_ image.Placer    = (*fixedWriter)(nil)
	_ image.Forwarder = (*fixedWriter)(nil)
)

// fixedUnit is the smallest run of zeros left out of the file: a block of the usual file systems.
const fixedUnit = 4096

// Unit returns the granularity of zeros.
func (w *fixedWriter) Unit() int64 { return fixedUnit }

// Forward writes what precedes the blocks, which does not depend on them.
func (w *fixedWriter) Forward() error {
	w.forward = true
	return w.writeFront(w.entry, true)
}

// Place returns the place of the content of off.
func (w *fixedWriter) Place(off, n int64) (host, placed int64, err error) {
	return w.dataAt() + off, n, nil
}

// entry returns the place of block i.
func (w *fixedWriter) entry(i int64) (at int64, ok bool) { return w.dataAt() + i*w.disk.block, true }

// Finish sets the file's size and writes what precedes the blocks.
func (w *fixedWriter) Finish() error {
	if err := w.setSize(w.disk.blocks()); err != nil || w.forward {
		return err
	}
	return w.writeFront(w.entry, false)
}
