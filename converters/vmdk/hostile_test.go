package vmdk_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/image/imagetest"
	"github.com/hyperplane-project/hyperplane/converters/vmdk"
)

const (
	sector = 512
	grain  = 64 << 10
	// firstGrain is where grains begin in the streams written here.
	firstGrain = 128 * sector
)

func damage(patch func([]byte) []byte, want error) imagetest.Damage {
	return imagetest.Damage{Patch: patch, Want: want}
}

func put32(at int, value uint32) func([]byte) []byte {
	return func(b []byte) []byte { binary.LittleEndian.PutUint32(b[at:], value); return b }
}

func put64(at int, value uint64) func([]byte) []byte {
	return func(b []byte) []byte { binary.LittleEndian.PutUint64(b[at:], value); return b }
}

func putText(at int, text string) func([]byte) []byte {
	return func(b []byte) []byte { copy(b[at:], text); return b }
}

func both(patches ...func([]byte) []byte) func([]byte) []byte {
	return func(b []byte) []byte {
		for _, p := range patches {
			b = p(b)
		}
		return b
	}
}

// fromEnd applies a patch at an offset counted from the end.
func fromEnd(patch func(at int, value uint64) func([]byte) []byte, at int, value uint64) func([]byte) []byte {
	return func(b []byte) []byte { return patch(len(b)-at, value)(b) }
}

func disk() *imagetest.Disk {
	return &imagetest.Disk{Size: 10 * grain, Pieces: []imagetest.Piece{
		{Off: 0, Len: 2 * grain, Content: imagetest.Text}, {Off: 5 * grain, Len: 100, Content: imagetest.Text},
	}}
}

// sparse is a monolithicSparse disk made by qemu-img.
func sparse(t *testing.T) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sparse.vmdk")
	imagetest.Qemu(t, "convert", "-f", "raw", "-O", "vmdk", imagetest.Raw(t, disk()), path)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func stream(t *testing.T) []byte {
	t.Helper()
	return imagetest.Bytes(t, harness(), imagetest.Variant{}, disk())
}

// replaceText changes the descriptor, of which both texts must have the same length.
func replaceText(old, text string) func([]byte) []byte {
	return func(b []byte) []byte { return bytes.Replace(b, []byte(old), []byte(text), 1) }
}

func TestDamagedHeader(t *testing.T) {
	t.Parallel()
	imagetest.Damages(t, harness(), sparse(t), map[string]imagetest.Damage{
		"untouched":                 damage(func(b []byte) []byte { return b }, nil),
		"version 0":                 damage(put32(4, 0), image.ErrUnsupported),
		"version 4":                 damage(put32(4, 4), image.ErrUnsupported),
		"version 2":                 damage(put32(4, 2), nil),
		"capacity 2^63":             damage(put64(12, 1<<63), image.ErrLimit),
		"capacity 2^38":             damage(put64(12, 1<<38), image.ErrTruncated), // its directory would not fit the file
		"capacity 2^53":             damage(put64(12, 1<<53), image.ErrLimit),
		"grain 0":                   damage(put64(20, 0), image.ErrCorrupt),
		"grain 3":                   damage(put64(20, 3), image.ErrCorrupt),
		"grain 2^63":                damage(put64(20, 1<<63), image.ErrCorrupt),
		"grain of 4 MiB":            damage(put64(20, 8192), image.ErrCorrupt),
		"descriptor past the end":   damage(put64(28, 1<<40), image.ErrTruncated),
		"descriptor at 2^64-1":      damage(put64(28, 1<<64-1), image.ErrTruncated),
		"descriptor of 2^60":        damage(put64(36, 1<<60), image.ErrLimit),
		"no descriptor":             damage(put64(28, 0), image.ErrReference),
		"empty descriptor":          damage(func(b []byte) []byte { clear(b[sector : 21*sector]); return b }, image.ErrReference),
		"no table entries":          damage(put32(44, 0), image.ErrCorrupt),
		"2^31 table entries":        damage(put32(44, 1<<31), image.ErrCorrupt),
		"500 table entries":         damage(put32(44, 500), image.ErrCorrupt),
		"directory past the end":    damage(put64(56, 1<<40), nil), // the redundant one is used
		"both past the end":         damage(both(put64(56, 1<<40), put64(48, 1<<40)), image.ErrTruncated),
		"no redundant one":          damage(both(put64(56, 1<<40), put32(8, 1)), image.ErrTruncated),
		"not closed cleanly":        damage(func(b []byte) []byte { b[72] = 1; return b }, nil),
		"line ends changed":         damage(putText(73, "\r\n \n"), image.ErrCorrupt),
		"compressed, method 2":      damage(both(put32(8, 1<<16|1<<17|1), put32(77, 2)), image.ErrUnsupported),
		"compressed, no markers":    damage(both(put32(8, 1<<16|1), put32(77, 1)), image.ErrUnsupported),
		"other name in descriptor":  damage(replaceText("sparse.vmdk", "/etc/passwd"), nil),
		"differencing disk":         damage(replaceText("parentCID=ffffffff", "parentCID=12345678"), image.ErrReference),
		"descriptor of flat":        damage(replaceText(" SPARSE ", " FLAT   "), image.ErrUnsupported),
		"descriptor without access": damage(replaceText("RW 1280", "NOACCESS 1280"), image.ErrUnsupported),
	})
}

func TestDamagedTables(t *testing.T) {
	t.Parallel()
	b := sparse(t)
	directory := int(binary.LittleEndian.Uint64(b[56:])) * sector
	table := int(binary.LittleEndian.Uint32(b[directory:])) * sector
	imagetest.Damages(t, harness(), b, map[string]imagetest.Damage{
		"table past the end":      damage(put32(directory, 1<<31), nil), // the redundant one is used
		"both tables past it":     damage(both(put32(directory, 1<<31), put64(48, 0), put32(8, 1)), image.ErrTruncated),
		"no table":                damage(put32(directory, 0), nil),
		"table is the directory":  damage(put32(directory, uint32(directory/sector)), nil),
		"grain past the end":      damage(put32(table, 1<<31), image.ErrTruncated),
		"grain across the end":    damage(put32(table, uint32(len(b)/sector-1)), image.ErrTruncated),
		"grain is the table":      damage(put32(table, uint32(table/sector)), nil),
		"zeroed grain":            damage(both(put32(8, 7), put32(table, 1)), nil),
		"zeroed without flag":     damage(put32(table, 1), image.ErrCorrupt),
		"sectors cut off the end": damage(func(b []byte) []byte { return b[:len(b)-3*sector] }, image.ErrTruncated),
	})
}

// TestRedundantTables reads through the redundant directory and compares the content.
func TestRedundantTables(t *testing.T) {
	t.Parallel()
	for name, patch := range map[string]func([]byte) []byte{
		"directory": put64(56, 1<<40),
		"table": func(b []byte) []byte {
			return put32(int(binary.LittleEndian.Uint64(b[56:]))*sector, 1<<31)(b)
		},
	} {
		b := patch(sparse(t))
		r, err := vmdk.Open(image.NewFile(bytes.NewReader(b), int64(len(b)), name), image.OpenOptions{})
		if err != nil {
			t.Fatal(err)
		}
		imagetest.Same(t, disk(), r)
	}
}

// TestKinds checks that each kind of VMDK that needs other files is refused without References, and what is never read is refused by name.
func TestKinds(t *testing.T) {
	t.Parallel()
	text := func(createType string, more ...string) string { return string(describe(createType, more...)) }
	for name, c := range map[string]struct {
		file string
		want error
		says string
	}{
		"monolithicFlat":        {text("monolithicFlat", `RW 2048 FLAT "/etc/shadow" 0`), image.ErrReference, "/etc/shadow"},
		"twoGbMaxExtentSparse":  {text("twoGbMaxExtentSparse", `RW 1 SPARSE "a"`, `RW 1 SPARSE "b"`), image.ErrReference, "1 of 2"},
		"vmfs":                  {text("vmfs", `RW 2048 VMFS "x-flat.vmdk"`), image.ErrReference, "x-flat.vmdk"},
		"snapshot":              {text("vmfsSparse", `RW 1 VMFSSPARSE "d"`), image.ErrReference, `"d"`},
		"parent":                {string(childOf(describe("custom", "RW 1 ZERO"), "11111111", "base.vmdk")), image.ErrReference, "base.vmdk"},
		"physical disk":         {text("fullDevice", `RW 1 FLAT "/dev/sda" 0`), image.ErrUnsupported, "physical"},
		"partitions":            {text("partitionedDevice", `RW 1 FLAT "/dev/sda" 0 partitionUUID x`), image.ErrUnsupported, "physical"},
		"raw device":            {text("vmfsRaw", `RW 1 VMFSRAW "x-rdm.vmdk"`), image.ErrUnsupported, "physical"},
		"raw device mapping":    {text("vmfsRDM", `RW 1 VMFSRDM "x-rdm.vmdk"`), image.ErrUnsupported, "physical"},
		"no extents":            {text("monolithicFlat", ""), image.ErrCorrupt, "no extent"},
		"blanks, other letters": {"\r\n# DISK descriptorfile\r\nCREATETYPE = \"vmfs\"\r\nrw 5 vmfs \"q\"\r\n", image.ErrReference, `"q"`},
		"too many extents":      {text("custom", strings.Repeat("RW 1 ZERO\n", 5000)), image.ErrLimit, "4096"},
		"too long":              {text("custom", strings.Repeat("#\n", 300_000)), image.ErrLimit, "bytes"},
		"COWD":                  {"COWD\x01\x00\x00\x00", image.ErrReference, "-delta"},
		"seSparse":              {"\xbe\xba\xfe\xca\x00\x00\x00\x00\x01", image.ErrReference, "-sesparse"},
		"nothing":               {"", image.ErrWrongFormat, ""},
		"text":                  {"# Disk", image.ErrWrongFormat, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := vmdk.Open(image.NewFile(strings.NewReader(c.file), int64(len(c.file)), name), image.OpenOptions{})
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("error is %v, want %v with %q", err, c.want, c.says)
			}
		})
	}
}

// TestHugeTables opens a disk whose header claims the largest tables. No memory is spent on the claim.
func TestHugeTables(t *testing.T) { //nolint:paralleltest // it counts the process' allocations
	b := put64(12, 1<<39)(sparse(t))
	file := image.NewFile(hugeFile{bytes.NewReader(b)}, 1<<60, "huge")
	var r image.Reader
	var err error
	used := imagetest.Allocates(func() { r, err = vmdk.Open(file, image.OpenOptions{}) })
	if err != nil {
		t.Fatal(err)
	}
	if used > 1<<20 {
		t.Errorf("opening allocates %d bytes", used)
	}
	used = imagetest.Allocates(func() { _, err = r.NextExtent(1 << 47) })
	if err != nil || used > 2<<20 {
		t.Errorf("one look-up allocates %d bytes, %v", used, err)
	}
}

// hugeFile is a file that goes on with zeros.
type hugeFile struct{ *bytes.Reader }

func (h hugeFile) ReadAt(p []byte, off int64) (int, error) {
	clear(p)
	if off < h.Size() {
		_, _ = h.Reader.ReadAt(p, off) // what is past the end stays zero
	}
	return len(p), nil
}
