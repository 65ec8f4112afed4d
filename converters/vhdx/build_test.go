package vhdx_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"unicode/utf16"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/image/imagetest"
	"github.com/hyperplane-project/hyperplane/converters/vhdx"
)

const (
	kib = 1 << 10
	mib = 1 << 20

	// Where things are in the images made here.
	header1    = 64 * kib
	header2    = 128 * kib
	regions1   = 192 * kib
	regions2   = 256 * kib
	logAt      = 1 * mib
	metadataAt = 2 * mib
	itemsAt    = metadataAt + 64*kib
	batAt      = 3 * mib
	block0     = 4 * mib // the block of the disk's first MiB
	block2     = 5 * mib // the block of the disk's third MiB
)

// entry of the BAT: block or bitmap at a MiB of the file.
func at(offset, state uint64) uint64 { return offset | state }

// good is an image of three and a half MiB, of which the first and the third are in the file.
func good(tb testing.TB) []byte {
	tb.Helper()
	disk := &imagetest.Disk{Size: 3*mib + 512*kib, Pieces: []imagetest.Piece{
		{Off: 0, Len: mib, Content: imagetest.Text}, {Off: 2 * mib, Len: 100, Content: imagetest.Random},
	}}
	f, err := os.CreateTemp(tb.TempDir(), "")
	if err != nil {
		tb.Fatal(err)
	}
	if err := imagetest.Copy(tb, harness(), imagetest.Variant{}, disk, f, 1); err != nil {
		tb.Fatal(err)
	}
	if err := f.Close(); err != nil {
		tb.Fatal(err)
	}
	b, err := os.ReadFile(f.Name())
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func put16(at int, value uint16) func([]byte) []byte {
	return func(b []byte) []byte { binary.LittleEndian.PutUint16(b[at:], value); return b }
}

func put32(at int, value uint32) func([]byte) []byte {
	return func(b []byte) []byte { binary.LittleEndian.PutUint32(b[at:], value); return b }
}

func put64(at int, value uint64) func([]byte) []byte {
	return func(b []byte) []byte { binary.LittleEndian.PutUint64(b[at:], value); return b }
}

func putBytes(at int, value ...byte) func([]byte) []byte {
	return func(b []byte) []byte { copy(b[at:], value); return b }
}

func both(patches ...func([]byte) []byte) func([]byte) []byte {
	return func(b []byte) []byte {
		for _, p := range patches {
			b = p(b)
		}
		return b
	}
}

func untouched(b []byte) []byte { return b }

// seal makes the checksum of a structure right.
func seal(b []byte) {
	clear(b[4:8])
	binary.LittleEndian.PutUint32(b[4:], crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
}

// sealAll makes the checksums of the headers and the region tables right.
func sealAll(b []byte) []byte {
	seal(b[header1:][:4*kib])
	seal(b[header2:][:4*kib])
	seal(b[regions1:][:64*kib])
	seal(b[regions2:][:64*kib])
	return b
}

// inHeaders patches both headers at offsets of their own.
func inHeaders(patch func([]byte) []byte) func([]byte) []byte {
	return func(b []byte) []byte { patch(b[header1:]); patch(b[header2:]); return sealAll(b) }
}

// inRegions patches both region tables at offsets of their own. The BAT has the first entry, at 16, the metadata have the second.
func inRegions(patch func([]byte) []byte) func([]byte) []byte {
	return func(b []byte) []byte { patch(b[regions1:]); patch(b[regions2:]); return sealAll(b) }
}

// guid returns the bytes of a GUID written in the usual way.
func guid(text string) []byte {
	b, err := hex.DecodeString(text[:8] + text[9:13] + text[14:18] + text[19:23] + text[24:])
	if err != nil {
		panic(err)
	}
	for _, part := range [][]byte{b[:4], b[4:6], b[6:8]} {
		slices.Reverse(part)
	}
	return b
}

func encode16(s string) []byte {
	var b []byte
	for _, u := range utf16.Encode([]rune(s)) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return b
}

// locator returns a parent locator with keys and values, which alternate.
func locator(texts ...string) []byte {
	le := binary.LittleEndian
	b := append(guid("b04aefb7-d19e-4a81-b789-25b8e9445913"), 0, 0)
	b = le.AppendUint16(b, uint16(len(texts)/2))
	at := 20 + 12*len(texts)/2
	var rest []byte
	for pair := range slices.Chunk(texts, 2) {
		key, value := encode16(pair[0]), encode16(pair[1])
		b = le.AppendUint32(b, uint32(at+len(rest)))
		b = le.AppendUint32(b, uint32(at+len(rest)+len(key)))
		b = le.AppendUint16(b, uint16(len(key)))
		b = le.AppendUint16(b, uint16(len(value)))
		rest = append(append(rest, key...), value...)
	}
	return append(b, rest...)
}

// addItem adds a metadata item.
func addItem(id string, flags uint32, value []byte) func([]byte) []byte {
	return func(b []byte) []byte {
		le := binary.LittleEndian
		n := le.Uint16(b[metadataAt+10:])
		e := b[metadataAt+32+32*int(n):]
		copy(e, guid(id))
		offset := 64*kib + 4*kib*uint32(n)
		le.PutUint32(e[16:], offset)
		le.PutUint32(e[20:], uint32(len(value)))
		le.PutUint32(e[24:], flags)
		copy(b[metadataAt+offset:], value)
		return put16(metadataAt+10, n+1)(b)
	}
}

// differencing makes an image one of differences, with the given parent locator.
func differencing(locator []byte) func([]byte) []byte {
	return both(put32(itemsAt+4, 2), addItem("a8d35f2d-b30b-454d-abf7-d3d84834ab0c", 4, locator))
}

func openBytes(t *testing.T, b []byte, o image.OpenOptions) (image.Reader, error) {
	t.Helper()
	return vhdx.Open(image.NewFile(bytes.NewReader(b), int64(len(b)), "image"), o)
}

// content returns all of the disk.
func content(t *testing.T, r image.Reader) []byte {
	t.Helper()
	b := make([]byte, r.Info().VirtualSize)
	if _, err := r.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	return b
}

// save writes b to a file of the folder and returns its path.
func save(t *testing.T, dir, name string, b []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
