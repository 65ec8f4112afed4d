package vmdk_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/image/imagetest"
	"github.com/hyperplane-project/hyperplane/converters/vmdk"
)

// files are the files of a folder by name.
type files map[string][]byte

// folder writes the files and returns the folder.
func (f files) folder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, b := range f {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// File and Image make files the References of an image in memory. Nothing is looked at but the name.
func (f files) File(ref image.Reference) (image.File, error) {
	b, ok := f[ref.Name]
	if !ok {
		return nil, image.Referencef("there is no %s %q", ref.Kind, ref.Name)
	}
	return image.NewFile(bytes.NewReader(b), int64(len(b)), ref.Name), nil
}

func (f files) Image(ref image.Reference, format string) (image.Reader, error) {
	file, err := f.File(ref)
	if err != nil {
		return nil, err
	}
	if format != "vmdk" {
		return nil, image.Referencef("%s %q should be of format %q", ref.Kind, ref.Name, format)
	}
	return vmdk.Open(file, image.OpenOptions{Refs: f})
}

// open opens the named file, with the others as what it may refer to.
func (f files) open(name string) (image.Reader, error) { return f.openWith(name, f) }

func (f files) openWith(name string, refs image.References) (image.Reader, error) {
	return vmdk.Open(image.NewFile(bytes.NewReader(f[name]), int64(len(f[name])), name), image.OpenOptions{Refs: refs})
}

// openAndRead reads the whole disk.
func (f files) openAndRead(name string) error {
	r, err := f.open(name)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, io.NewSectionReader(r, 0, r.Info().VirtualSize))
	return errors.Join(err, r.Close())
}

// describe returns a descriptor file.
func describe(createType string, more ...string) []byte {
	return []byte("# Disk DescriptorFile\nversion=1\nCID=1a2b3c4d\nparentCID=ffffffff\ncreateType=\"" + createType + "\"\n" + strings.Join(more, "\n") + "\n")
}

// childOf makes the descriptor that of a differencing disk.
func childOf(descriptor []byte, cid, hint string) []byte {
	parent := fmt.Sprintf("parentCID=%s\nparentFileNameHint=\"%s\"", cid, hint)
	return []byte(strings.Replace(strings.Replace(string(descriptor), "parentCID=ffffffff", parent, 1), "\nCID=1a2b3c4d", "\nCID=5e6f7081", 1))
}

// bytesOf returns the content of a small disk.
func bytesOf(t *testing.T, r image.Reader) []byte {
	t.Helper()
	b := make([]byte, r.Info().VirtualSize)
	if _, err := io.ReadFull(io.NewSectionReader(r, 0, int64(len(b))), b); err != nil {
		t.Fatal(err)
	}
	return b
}

// grainsOf calls fn for each grain of the disk that holds something else than zeros.
func grainsOf(b []byte, size int, fn func(i int, grain []byte)) {
	for i := 0; i*size < len(b); i++ {
		g := b[i*size : min(len(b), (i+1)*size)]
		if !bytes.Equal(g, make([]byte, len(g))) {
			fn(i, append(bytes.Clone(g), make([]byte, size-len(g))...))
		}
	}
}

// cowd makes a COWD extent of grains of the given number of sectors: header, grain directory, then tables and grains as they are needed.
func cowd(disk []byte, grainSectors int) []byte {
	le := binary.LittleEndian
	tables := (len(disk) + 4096*grainSectors*sector - 1) / (4096 * grainSectors * sector)
	b := make([]byte, (4+(tables*4+sector-1)/sector)*sector)
	copy(b, "COWD")
	for i, v := range []int{1, 3, len(disk) / sector, grainSectors, 4, tables, 0, 1, 1, 1} {
		le.PutUint32(b[4+4*i:], uint32(v))
	}
	grainsOf(disk, grainSectors*sector, func(i int, grain []byte) {
		at := 4*sector + i/4096*4
		if le.Uint32(b[at:]) == 0 {
			le.PutUint32(b[at:], uint32(len(b)/sector))
			b = append(b, make([]byte, 4096*4)...)
		}
		le.PutUint32(b[int(le.Uint32(b[at:]))*sector+i%4096*4:], uint32(len(b)/sector))
		b = append(b, grain...)
	})
	return b
}

// Where the parts of the seSparse extents made here are, in sectors.
const (
	seVolatile, seDirectory, seTables, seGrains = 1, 8, 16, 16 + 8*64
)

// seSparse makes a seSparse extent. special are entries of the first grain table to be set as they are.
func seSparse(disk []byte, special map[int]uint64) []byte {
	le := binary.LittleEndian
	b := make([]byte, seGrains*sector)
	put := func(at int, v uint64) { le.PutUint64(b[at:], v) }
	put(0, 0xcafebabe)
	put(8, 0x200000001)
	for i, v := range []int{len(disk) / sector, 8, 64, 0, 0, 0, 0, 0, seVolatile, 1, 2, 1, 3, 1, seDirectory, 1, seTables, 8 * 64, 0, 0, 0, 0, seGrains, 1 << 20} {
		put(16+8*i, uint64(v))
	}
	put(seVolatile*sector, 0xcafecafe)
	table := func(i int) int { // the tables are used in descending order
		n := 7 - i/4096
		put(seDirectory*sector+i/4096*8, 0x1000000000000000|uint64(n))
		return (seTables+n*64)*sector + i%4096*8
	}
	grainsOf(disk, 4096, func(i int, grain []byte) {
		n := uint64(len(b)-seGrains*sector) / 4096
		put(table(i), 3<<60|n&0xfff<<48|n>>12)
		b = append(b, grain...)
	})
	for i, v := range special {
		put(table(i), v)
	}
	return b
}

// compareWithQemu has qemu-img read the named disk of the folder.
func compareWithQemu(t *testing.T, want []byte, path string) {
	t.Helper()
	imagetest.Qemu(t, "compare", "-f", "raw", "-F", "vmdk", imagetest.Raw(t, memory(want)), path)
}

// TestDeltas reads chains of snapshots: a flat base, and on it extents of each sparse kind. QEMU reads the same.
func TestDeltas(t *testing.T) {
	t.Parallel()
	const size = 40<<20 + 512
	base := bytesOf(t, imagetest.RandomDisk(71, size))
	change := bytesOf(t, &imagetest.Disk{Size: size, Pieces: []imagetest.Piece{
		{Off: 1 << 20, Len: 300_000, Content: imagetest.Text},
		{Off: 33 << 20, Len: 5000, Content: imagetest.Random},
		{Off: size - 700, Len: 700, Content: imagetest.Text},
	}})
	line := func(kind, name string) string { return fmt.Sprintf("RW %d %s \"%s\"", size/sector, kind, name) }
	hosted := imagetest.Bytes(t, plainHarness(), plainHarness().Variants[0], memory(change))
	embedded := hosted[sector : 21*sector]
	text := childOf(bytes.TrimRight(embedded, "\x00"), "1a2b3c4d", "base.vmdk")
	clear(embedded[copy(embedded, text):])
	all := files{
		"base.vmdk": describe("vmfs", line("VMFS", "base-flat.vmdk")), "base-flat.vmdk": base,
		"cowd.vmdk": childOf(describe("vmfsSparse", line("VMFSSPARSE", "cowd-delta.vmdk")), "1A2B3C4D", "base.vmdk"), "cowd-delta.vmdk": cowd(change, 1),
		"cow8.vmdk": childOf(describe("vmfsSparse", line("VMFSSPARSE", "cow8-delta.vmdk")), "1a2b3c4d", "base.vmdk"), "cow8-delta.vmdk": cowd(change, 8),
		"se.vmdk":          childOf(describe("seSparse", line("SESPARSE", "se-sesparse.vmdk")), "1a2b3c4d", "base.vmdk"),
		"se-sesparse.vmdk": seSparse(change, map[int]uint64{0: 1 << 60, 1: 2 << 60}),
		"hosted.vmdk":      hosted,
		"second.vmdk":      childOf(describe("custom", line("ZERO", "")), "5e6f7081", "se.vmdk"),
	}
	dir := all.folder(t)
	for name, c := range map[string]struct {
		grain  int
		zeroed int // bytes at the beginning that the child says are zeros
	}{
		"cowd.vmdk": {512, 0}, "cow8.vmdk": {4096, 0}, "se.vmdk": {4096, 8192}, "hosted.vmdk": {64 << 10, 0}, "second.vmdk": {512, size}, "base.vmdk": {0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want := bytes.Clone(base)
			if c.grain > 0 {
				grainsOf(change, c.grain, func(i int, grain []byte) { copy(want[i*c.grain:], grain) })
			}
			clear(want[:c.zeroed])
			r := imagetest.Open(t, plainHarness(), filepath.Join(dir, name))
			if got := bytesOf(t, r); !bytes.Equal(got, want) {
				t.Error("other content is read")
			}
			imagetest.Same(t, memory(want), r)
			if name != "second.vmdk" { // QEMU knows no ZERO extents
				compareWithQemu(t, want, filepath.Join(dir, name))
			}
		})
	}
}

// TestKindsOfExtent reads a disk of extents of all kinds, in pieces that begin anywhere.
func TestKindsOfExtent(t *testing.T) {
	t.Parallel()
	part := func(seed uint64, size int64) []byte { return bytesOf(t, imagetest.RandomDisk(seed, size)) }
	flat, thin, cow, se := part(1, 1<<20), part(2, 600_064), part(3, 700_416), part(4, 800_256)
	sparse := imagetest.Bytes(t, plainHarness(), plainHarness().Variants[1], memory(part(5, 900_096)))
	packed := imagetest.Bytes(t, harness(), harness().Variants[0], memory(part(6, 500_224)))
	all := files{
		"disk.vmdk": describe("custom",
			fmt.Sprintf("RW %d FLAT \"flat\" 100", (1<<20)/sector-200), "RDONLY 33 ZERO", fmt.Sprintf("rdonly\t%d  vmfs \"a \"thin\" one\"", 600_064/sector),
			fmt.Sprintf("RW %d VMFSSPARSE \"cow\"", 700_416/sector), "RW 0 ZERO", fmt.Sprintf("RW %d SESPARSE \"se\"", 800_256/sector),
			fmt.Sprintf("RW %d SPARSE \"sparse\"", 900_096/sector-1), fmt.Sprintf("RW %d SPARSE \"packed\"", 500_224/sector), "RW 7 ZERO"),
		"flat": flat, "a \"thin\" one": thin, "cow": cowd(cow, 16), "se": seSparse(se, nil), "sparse": sparse, "packed": packed,
	}
	want := append(bytes.Clone(flat[100*sector:len(flat)-100*sector]), make([]byte, 33*sector)...)
	want = append(append(append(want, thin...), cow...), se...)
	want = append(append(append(want, part(5, 900_096)[:900_096-sector]...), part(6, 500_224)...), make([]byte, 7*sector)...)
	r, err := all.open("disk.vmdk")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	imagetest.Same(t, memory(want), r)
	for _, step := range []int{777, 64 << 10, 1<<20 + 1} {
		got := make([]byte, 0, len(want))
		for p := make([]byte, step); len(got) < len(want); {
			n, err := r.ReadAt(p, int64(len(got)))
			if n == 0 {
				t.Fatal(err)
			}
			got = append(got, p[:n]...)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("other content is read in pieces of %d bytes", step)
		}
	}
	info := r.Info()
	if info.Variant != "custom" || info.ContentID != "1a2b3c4d" || len(info.References) != 6 || info.ClusterSize != 64<<10 || info.SectorSize != 512 {
		t.Errorf("the disk is described as %+v", info)
	}
}
