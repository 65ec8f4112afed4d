package vhdx_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/image/imagetest"
)

// TestChunks copies disks of several chunks to and from qemu-img: the BAT then has entries of bitmaps between those of blocks.
func TestChunks(t *testing.T) {
	t.Parallel()
	const chunk = 4 << 30
	disk := &imagetest.Disk{Size: chunk + 5*mib, Pieces: []imagetest.Piece{
		{Off: mib, Len: 100, Content: imagetest.Text},
		{Off: chunk - 3*mib/2, Len: 3 * mib, Content: imagetest.Random},
		{Off: chunk + 4*mib, Len: mib, Content: imagetest.Text},
	}}
	raw := imagetest.Raw(t, disk)
	path := imagetest.Write(t, harness(), imagetest.Variant{}, disk)
	imagetest.Qemu(t, "check", "-f", "vhdx", path)
	// Comparing all of the disk would take qemu-img many seconds: it does not skip what is not in the file.
	const from, n = chunk/mib - 4, 9
	part := filepath.Join(t.TempDir(), "part.raw")
	imagetest.Qemu(t, "dd", "-f", "vhdx", "-O", "raw", "bs=1M", fmt.Sprint("skip=", from), fmt.Sprint("count=", from+n), "if="+path, "of="+part)
	got, err := os.ReadFile(part)
	if err != nil {
		t.Fatal(err)
	}
	want := make([]byte, n*mib)
	if _, err := disk.ReadAt(want, from*mib); err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("qemu-img reads something else around the chunk's end")
	}
	for _, size := range []string{"1M", "32M"} {
		path := filepath.Join(t.TempDir(), "disk.vhdx")
		imagetest.Qemu(t, "convert", "-f", "raw", "-O", "vhdx", "-o", "block_size="+size, raw, path)
		imagetest.Same(t, disk, imagetest.Open(t, harness(), path))
	}
}

// TestLargeSectors reads a disk of 5 GiB in sectors of 4096 bytes. A chunk then has 32 GiB, so no bitmap's entry comes before the last block's.
func TestLargeSectors(t *testing.T) {
	t.Parallel()
	disk := &imagetest.Disk{Size: 5 << 30, Pieces: []imagetest.Piece{{Off: 4<<30 + 7*mib, Len: mib, Content: imagetest.Random}}}
	b := imagetest.Bytes(t, harness(), imagetest.Variant{}, disk)
	const i = ratio + 7 // the block's number; its entry is one further because of the bitmap's
	b = both(put32(itemsAt+16, 4096), put64(batAt+8*i, at(block0, 6)), put64(batAt+8*(i+1), 0))(b)
	r := mustOpen(t, b)
	imagetest.Same(t, disk, r)
	if got := r.Info().SectorSize; got != 4096 {
		t.Errorf("sectors have %d bytes", got)
	}
}

// TestFixedHoles reads a fixed disk whose file has holes: they are zeros, not content.
func TestFixedHoles(t *testing.T) {
	t.Parallel()
	disk := &imagetest.Disk{Size: 1 << 30, Pieces: []imagetest.Piece{{Off: 100 * mib, Len: mib, Content: imagetest.Random}}}
	r := imagetest.Open(t, harness(), imagetest.Write(t, harness(), imagetest.Variant{Options: image.CreateOptions{Variant: "fixed"}}, disk))
	e, err := r.NextExtent(0)
	if err != nil || e.Kind != image.Zero || e.Len != 100*mib || e.Host != -1 {
		t.Errorf("extent is %+v, %v; want 100 MiB of zeros", e, err)
	}
}

// TestDefaultBlock checks the block sizes that are chosen.
func TestDefaultBlock(t *testing.T) {
	t.Parallel()
	for size, want := range map[int64]int64{0: mib, 8 << 40: mib, 8<<40 + 512: 2 * mib, 64 << 40: 8 * mib} {
		r := imagetest.Open(t, harness(), imagetest.Write(t, harness(), imagetest.Variant{}, &imagetest.Disk{Size: size}))
		if got := r.Info().ClusterSize; got != want {
			t.Errorf("a disk of %d bytes gets blocks of %d, want %d", size, got, want)
		}
	}
}
