package vhd

import (
	"bytes"
	"encoding/binary"
	"iter"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

const (
	defaultBlock = 2 << 20
	smallBlock   = 512 << 10
	// alignment is what the content of blocks is aligned to: file systems share pieces of that size.
	alignment = 4096
	// tablePiece is how many bytes of the table are written at once.
	tablePiece = 64 << 10
)

// dynamicWriter writes a dynamic disk: the footer's copy, the header, the table, the blocks, the footer. The table's size is known from the start, so blocks
// follow it in the order in which they come. The copy of the footer is written last: a file that was not finished is no image.
type dynamicWriter struct {
	out   image.Output
	foot  footer
	head  header
	table []uint32 // for each block of the disk 1 + its number in the file, or 0; four bytes a block, 16 MiB for the largest disk
	used  int64    // how many blocks the file has
	// With forward the table is filled by Plan, and marked counts the blocks whose bitmap was written.
	forward bool
	marked  int64
}

var (
	_ image.Placer     = (*dynamicWriter)(nil)
	_ image.Planner    = (*dynamicWriter)(nil)
	_ image.Forwarder  = (*dynamicWriter)(nil)
	_ image.Redirector = (*dynamicWriter)(nil)
)

func newDynamicWriter(out image.Output, foot footer, block int64) (image.Writer, error) {
	if block == 0 {
		block = defaultBlock
	}
	if block != defaultBlock && block != smallBlock {
		return nil, fault.New(fault.InvalidArgument, "vhd: blocks of %d bytes; Windows reads blocks of %d and %d", block, defaultBlock, smallBlock)
	}
	w := &dynamicWriter{out: out, foot: foot, head: header{at: footerSize, tableAt: footerSize + headerSize, block: block}}
	w.head.entries = w.head.needed(int64(foot.size))
	w.table = make([]uint32, w.head.entries)
	return w, nil
}

// Unit returns the block size.
func (w *dynamicWriter) Unit() int64 { return w.head.block }

// host returns the offset of the content of the file's block i. Its bitmap, one sector, is in front.
func (w *dynamicWriter) host(i int64) int64 {
	first := alignUp(w.head.tableAt+w.head.entries*4+sectorSize, alignment)
	return first + i*(w.head.block+alignment)
}

// Forward makes Plan write what precedes the blocks.
func (w *dynamicWriter) Forward() error {
	w.forward = true
	return nil
}

// Plan fills and writes the table of a file that is written front to back. Otherwise there is nothing to plan: the table has its place anyhow.
func (w *dynamicWriter) Plan(runs iter.Seq2[image.Run, error]) error {
	if !w.forward {
		return nil
	}
	for run, err := range runs {
		if err != nil {
			return err
		}
		for off := run.Off; off < run.Off+run.Len; off += w.head.block {
			if err := w.allocate(off / w.head.block); err != nil {
				return err
			}
		}
	}
	return w.writeFront()
}

// allocate gives block i of the disk the next place in the file.
func (w *dynamicWriter) allocate(i int64) error {
	if end := w.host(w.used) + w.head.block; end > unused*sectorSize {
		return image.Limitf("vhd: the file would grow to %d bytes; a table of 32-bit sectors cannot hold that; choose larger blocks or write a vhdx", end)
	}
	w.used++
	w.table[i] = uint32(w.used)
	return nil
}

// Place allocates the block at off. Each block is a piece of its own, for bitmaps lie between them.
func (w *dynamicWriter) Place(off, _ int64) (host, placed int64, err error) {
	i := off / w.head.block
	if w.table[i] == 0 {
		if err := w.allocate(i); err != nil {
			return 0, 0, err
		}
		if err := w.writeBitmap(w.used - 1); err != nil {
			return 0, 0, err
		}
	}
	return w.host(int64(w.table[i]) - 1), w.head.block, nil
}

// writeBitmap writes the bitmap of the file's block i: all sectors are there.
func (w *dynamicWriter) writeBitmap(i int64) error {
	return writeAt(w.out, bytes.Repeat([]byte{0xff}, sectorSize), w.host(i)-sectorSize)
}

// Content returns where the content goes. Front to back a bitmap must be written when the content of the blocks before it has been, not when its block is
// placed.
func (w *dynamicWriter) Content() image.Output {
	if !w.forward {
		return w.out
	}
	return markedOutput{w.out, w}
}

// markedOutput writes each block's bitmap before the block's first content.
type markedOutput struct {
	image.Output
	w *dynamicWriter
}

// WriteAt writes a piece of one block.
func (o markedOutput) WriteAt(p []byte, off int64) (int, error) {
	for o.w.marked < o.w.used && o.w.host(o.w.marked) <= off {
		if err := o.w.writeBitmap(o.w.marked); err != nil {
			return 0, err
		}
		o.w.marked++
	}
	return o.Output.WriteAt(p, off)
}

// Finish writes the footer at the end and, unless Plan has, what precedes the blocks.
func (w *dynamicWriter) Finish() error {
	end := alignUp(w.head.tableAt+w.head.entries*4, sectorSize)
	if w.used > 0 {
		end = w.host(w.used-1) + w.head.block
	}
	if err := fault.Wrap(w.out.Truncate(end), "vhd: set the file's size to %d bytes", end); err != nil {
		return err
	}
	if err := writeAt(w.out, w.foot.encode(), end); err != nil || w.forward {
		return err
	}
	return w.writeFront()
}

// writeFront writes the footer's copy, the header and the table, in the order of a forward file or with the copy last.
func (w *dynamicWriter) writeFront() error {
	if w.forward {
		if err := writeAt(w.out, w.foot.encode(), 0); err != nil {
			return err
		}
	}
	if err := writeAt(w.out, w.head.encode(), w.head.at); err != nil {
		return err
	}
	if err := w.writeTable(); err != nil || w.forward {
		return err
	}
	return writeAt(w.out, w.foot.encode(), 0)
}

// writeTable writes the table piece by piece. It is padded to a sector with entries of no block.
func (w *dynamicWriter) writeTable() error {
	b := make([]byte, 0, tablePiece)
	at := w.head.tableAt
	for i := range alignUp(w.head.entries, sectorSize/4) {
		sector := uint32(unused)
		if i < w.head.entries && w.table[i] > 0 {
			sector = uint32((w.host(int64(w.table[i])-1) - sectorSize) / sectorSize)
		}
		if b = binary.BigEndian.AppendUint32(b, sector); len(b) < tablePiece {
			continue
		}
		if err := writeAt(w.out, b, at); err != nil {
			return err
		}
		at += int64(len(b))
		b = b[:0]
	}
	return writeAt(w.out, b, at)
}

// alignUp returns the next multiple of align, a power of two, that is at least n.
func alignUp(n, align int64) int64 { return (n + align - 1) &^ (align - 1) }
