package vdi_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/image/imagetest"
	"github.com/hyperplane-project/hyperplane/converters/vdi"
)

// Offsets in the image of good.
const (
	block  = 1 << 20
	mapAt  = 512
	dataAt = block
)

// good is an image of six blocks, of which the first, second and fifth are blocks 0 to 2 of the file. The last ends where the disk does.
func good(t *testing.T) []byte {
	t.Helper()
	return imagetest.Bytes(t, harness(), imagetest.Variant{}, disk())
}

func disk() *imagetest.Disk {
	return &imagetest.Disk{Size: 5*block + 1024, Pieces: []imagetest.Piece{
		{Off: 100, Len: block, Content: imagetest.Text}, {Off: 4 * block, Len: 70_000, Content: imagetest.Random},
	}}
}

type patch = func([]byte) []byte

func put32(at int, value uint32) patch {
	return func(b []byte) []byte { binary.LittleEndian.PutUint32(b[at:], value); return b }
}

func diskSize(value uint64) patch {
	return func(b []byte) []byte { binary.LittleEndian.PutUint64(b[368:], value); return b }
}

func entry(i int, value uint32) patch { return put32(mapAt+4*i, value) }

func cut(n int) patch { return func(b []byte) []byte { return b[:n] } }

func all(patches ...patch) patch {
	return func(b []byte) []byte {
		for _, p := range patches {
			b = p(b)
		}
		return b
	}
}

func damage(p patch, want error) imagetest.Damage { return imagetest.Damage{Patch: p, Want: want} }

func TestDamagedHeader(t *testing.T) {
	t.Parallel()
	imagetest.Damages(t, harness(), good(t), map[string]imagetest.Damage{
		"untouched":                  damage(all(), nil),
		"other text":                 damage(func(b []byte) []byte { copy(b, "<<< whatever >>>"); return b }, nil),
		"no magic":                   damage(put32(64, 0), image.ErrWrongFormat),
		"cut in the magic":           damage(cut(67), image.ErrWrongFormat),
		"cut in the header":          damage(cut(471), image.ErrTruncated),
		"cut in the map":             damage(cut(530), image.ErrTruncated),
		"version 0.1":                damage(put32(68, 1), image.ErrUnsupported),
		"version 1.2":                damage(put32(68, 1<<16|2), image.ErrUnsupported),
		"header of 383 bytes":        damage(put32(72, 383), image.ErrCorrupt),
		"type 0":                     damage(put32(76, 0), image.ErrCorrupt),
		"undo":                       damage(put32(76, 3), image.ErrUnsupported),
		"differencing, no UUID":      damage(put32(76, 4), image.ErrCorrupt),
		"differencing":               damage(all(put32(76, 4), put32(424, 7)), image.ErrReference),
		"type 5":                     damage(put32(76, 5), image.ErrCorrupt),
		"map in the header":          damage(put32(340, 64), image.ErrCorrupt),
		"map past the end":           damage(put32(340, 1<<32-4), image.ErrTruncated),
		"data in the map":            damage(put32(344, mapAt+20), image.ErrCorrupt),
		"data in the header":         damage(put32(344, 0), image.ErrCorrupt),
		"data past the end":          damage(put32(344, 1<<32-1), image.ErrTruncated),
		"sectors of 4096":            damage(put32(360, 4096), image.ErrUnsupported),
		"size above the map":         damage(diskSize(6*block+1), image.ErrCorrupt),
		"size 2^63":                  damage(diskSize(1<<63), image.ErrLimit),
		"size 2^63-1":                damage(diskSize(1<<63-1), image.ErrCorrupt),
		"block size 0":               damage(put32(376, 0), image.ErrUnsupported),
		"block size 512":             damage(put32(376, 512), image.ErrUnsupported),
		"block size of no power":     damage(put32(376, block+512), image.ErrUnsupported),
		"block size 2^31":            damage(put32(376, 1<<31), image.ErrUnsupported),
		"block extra 2^32-1":         damage(put32(380, 1<<32-1), image.ErrLimit),
		"map of 2^32-1":              damage(put32(384, 1<<32-1), image.ErrLimit),
		"map of 2^29-1":              damage(put32(384, 1<<29-1), image.ErrTruncated),
		"allocated count wrong":      damage(put32(388, 1<<32-1), nil),
		"disk of no bytes":           damage(all(diskSize(0), put32(384, 0)), nil),
		"free where the parent asks": damage(entry(0, 0xffffffff), nil),
	})
}

func TestDamagedMap(t *testing.T) {
	t.Parallel()
	imagetest.Damages(t, harness(), good(t), map[string]imagetest.Damage{
		"zero block":               damage(entry(0, 0xfffffffe), nil),
		"block past the end":       damage(entry(0, 3), image.ErrTruncated),
		"block 2^32-3":             damage(entry(0, 0xfffffffd), image.ErrTruncated),
		"block named twice":        damage(entry(3, 0), image.ErrCorrupt),
		"last block named twice":   damage(entry(5, 2), image.ErrCorrupt),
		"last block is short":      damage(all(entry(4, 0xffffffff), entry(5, 2), cut(dataAt+2*block+1024)), nil),
		"last block is too short":  damage(all(entry(4, 0xffffffff), entry(5, 2), cut(dataAt+2*block+1023)), image.ErrTruncated),
		"inner block is short":     damage(cut(dataAt+2*block+70_000), image.ErrTruncated),
		"entry behind the disk":    damage(all(diskSize(5*block), entry(5, 77)), nil),
		"extra bytes past the end": damage(put32(380, 4*block), image.ErrTruncated),
	})
}

// TestLayouts reads images whose blocks are elsewhere than VirtualBox puts them.
func TestLayouts(t *testing.T) {
	t.Parallel()
	move := func(from, to int) patch {
		return func(b []byte) []byte {
			moved := append(bytes.Clone(b[:from]), make([]byte, to-from)...)
			return append(moved, b[from:]...)
		}
	}
	for name, p := range map[string]patch{
		"data at no sector":   all(move(dataAt, dataAt+4), put32(344, dataAt+4)),
		"data at once":        func(b []byte) []byte { return put32(344, 772)(append(bytes.Clone(b[:772]), b[dataAt:]...)) },
		"extra bytes":         all(move(dataAt+2*block, dataAt+2*block+512), move(dataAt+block, dataAt+block+512), move(dataAt, dataAt+512), put32(380, 512)),
		"map further back":    all(func(b []byte) []byte { copy(b[4096:], b[mapAt:mapAt+24]); clear(b[mapAt : mapAt+24]); return b }, put32(340, 4096)),
		"header of 384 bytes": put32(72, 384),
		"blocks swapped": all(entry(0, 1), entry(1, 0), func(b []byte) []byte {
			first := bytes.Clone(b[dataAt : dataAt+block])
			copy(b[dataAt:], b[dataAt+block:dataAt+2*block])
			copy(b[dataAt+block:], first)
			return b
		}),
		"blocks of 512 KiB": func(b []byte) []byte {
			for i, e := range []uint32{0, 1, 2, 3, 0xffffffff, 0xffffffff, 0xffffffff, 0xfffffffe, 4, 5, 0xffffffff} {
				b = entry(i, e)(b)
			}
			return all(put32(376, block/2), put32(384, 11))(b)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := p(good(t))
			r, err := vdi.Open(image.NewFile(bytes.NewReader(b), int64(len(b)), name), image.OpenOptions{})
			if err != nil {
				t.Fatal(err)
			}
			imagetest.Same(t, disk(), r)
		})
	}
}

// TestHugeMap opens an image whose header claims the largest map. No memory is spent on the claim.
func TestHugeMap(t *testing.T) { //nolint:paralleltest // it counts the process' allocations
	b := all(put32(384, 1<<29-1), diskSize(1<<49-1<<20), put32(344, 1<<32-1))(good(t))
	file := image.NewFile(freeFile{bytes.NewReader(b)}, 1<<40, "huge")
	var r image.Reader
	var err error
	if used := imagetest.Allocates(func() { r, err = vdi.Open(file, image.OpenOptions{}) }); err != nil || used > 1<<20 {
		t.Errorf("opening allocates %d bytes, %v", used, err)
	}
	if r.Info().VirtualSize != 1<<49-1<<20 {
		t.Errorf("virtual size is %d", r.Info().VirtualSize)
	}
}

// freeFile is a file that goes on with 0xff: entries of free blocks.
type freeFile struct{ *bytes.Reader }

func (h freeFile) ReadAt(p []byte, off int64) (int, error) {
	for i := range p {
		p[i] = 0xff
	}
	if off < h.Size() {
		_, _ = h.Reader.ReadAt(p, off) // what is past the end stays 0xff
	}
	return len(p), nil
}

func TestWrongFormat(t *testing.T) {
	t.Parallel()
	for _, b := range [][]byte{nil, []byte("<<< Oracle VM VirtualBox Disk Image >>>\n"), make([]byte, 67), make([]byte, 1024)} {
		if _, err := vdi.Open(image.NewFile(bytes.NewReader(b), int64(len(b)), "x"), image.OpenOptions{}); !errors.Is(err, image.ErrWrongFormat) {
			t.Errorf("%d bytes: %v, want ErrWrongFormat", len(b), err)
		}
	}
}

func TestCreateRefuses(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]image.CreateOptions{
		"variant":     {Variant: "undo"},
		"compression": {Compression: "zlib"},
		"clusters":    {ClusterSize: 2 << 20},
		"backing":     {Backing: &image.Backing{Name: "x", Format: "vdi"}},
		"size":        {VirtualSize: 512 << 40},
	} {
		if _, err := vdi.Create(nil, o); !errors.Is(err, image.ErrUnsupported) && !errors.Is(err, image.ErrLimit) {
			t.Errorf("%s: %v, want a refusal", name, err)
		}
	}
}

// small is an image of blocks of 4 KiB, most of which is free: what a fuzz test can afford.
func small(kind uint32) []byte {
	const block, blocks = 4096, 9
	b := make([]byte, 1024+3*block)
	b = all(put32(64, 0xbeda107f), put32(68, 1<<16|1), put32(72, 400), put32(76, kind), put32(340, mapAt), put32(344, 1024), put32(360, 512),
		diskSize(blocks*block-512), put32(376, block), put32(384, blocks), put32(388, 3), put32(392, 1), put32(424, 2))(b)
	for i, e := range []uint32{1, 0xffffffff, 0, 0xfffffffe, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 2} {
		b = entry(i, e)(b)
	}
	return b
}

func FuzzOpen(f *testing.F) {
	for kind := range uint32(5) {
		f.Add(small(kind))
	}
	imagetest.FuzzReader(f, harness())
}
