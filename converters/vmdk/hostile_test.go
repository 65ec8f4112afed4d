package vmdk_test

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
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

// record returns a grain's record with the given zlib content.
func record(t *testing.T, lba uint64, plain []byte) []byte {
	t.Helper()
	var z bytes.Buffer
	w := zlib.NewWriter(&z)
	if _, err := w.Write(plain); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	b := binary.LittleEndian.AppendUint64(nil, lba)
	b = binary.LittleEndian.AppendUint32(b, uint32(z.Len()))
	return append(b, z.Bytes()...)
}

func TestDamagedStreamFile(t *testing.T) {
	t.Parallel()
	b := stream(t)
	size := int(binary.LittleEndian.Uint32(b[firstGrain+8:]))
	imagetest.Damages(t, harness(), b, map[string]imagetest.Damage{
		"untouched":              damage(func(b []byte) []byte { return b }, nil),
		"no end marker":          damage(func(b []byte) []byte { return b[:len(b)-sector] }, image.ErrTruncated),
		"no footer":              damage(func(b []byte) []byte { return b[:len(b)-3*sector] }, image.ErrTruncated),
		"footer without magic":   damage(fromEnd(put64, 1024, 0), image.ErrCorrupt),
		"footer, other size":     damage(fromEnd(put64, 1024-12, 5), image.ErrCorrupt),
		"footer, other grain":    damage(fromEnd(put64, 1024-20, 16), image.ErrCorrupt),
		"footer without place":   damage(fromEnd(put64, 1024-56, 1<<64-1), image.ErrCorrupt),
		"directory past the end": damage(fromEnd(put64, 1024-56, 1<<50), image.ErrTruncated),
		"grain for other sector": damage(put64(firstGrain, 128), image.ErrCorrupt),
		"grain without size":     damage(put32(firstGrain+8, 0), image.ErrCorrupt),
		"grain of 2^32-1":        damage(put32(firstGrain+8, 1<<32-1), image.ErrCorrupt),
		"grain too short":        damage(put32(firstGrain+8, 6), image.ErrCorrupt),
		"wrong checksum":         damage(put32(firstGrain+12+size-4, 0), image.ErrCorrupt),
		"no zlib header":         damage(put32(firstGrain+12, 0), image.ErrCorrupt),
		"preset dictionary":      damage(putText(firstGrain+12, "\x78\xbb"), image.ErrCorrupt),
		"one byte more":          damage(putText(firstGrain, string(record(t, 0, make([]byte, grain+1)))), image.ErrCorrupt),
		"one byte less":          damage(putText(firstGrain, string(record(t, 0, make([]byte, grain-1)))), image.ErrCorrupt),
		"bomb":                   damage(putText(firstGrain, string(record(t, 0, make([]byte, 9*grain)))), image.ErrCorrupt),
		"garbage":                damage(putText(firstGrain+14, "\xff\xff\xff\xff"), image.ErrCorrupt),
	})
}

// TestShortLastGrain reads a disk whose last grain was deflated only as far as the disk goes, as VMware's tools do.
func TestShortLastGrain(t *testing.T) {
	t.Parallel()
	want := &imagetest.Disk{Size: grain + 1024, Pieces: []imagetest.Piece{{Off: 0, Len: grain + 1024, Content: imagetest.Text}}}
	b := imagetest.Bytes(t, harness(), imagetest.Variant{}, want)
	plain := make([]byte, 1024)
	if _, err := want.ReadAt(plain, grain); err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	second := firstGrain + (12+int(binary.LittleEndian.Uint32(b[firstGrain+8:]))+sector-1)/sector*sector
	for n, wantErr := range map[int]error{1024: nil, 1023: image.ErrCorrupt} {
		b := putText(second, string(record(t, 128, plain[:n])))(bytes.Clone(b))
		if err := streamError(b); !errors.Is(err, wantErr) {
			t.Errorf("%d bytes as a stream: %v, want %v", n, err, wantErr)
		}
		r, err := vmdk.Open(image.NewFile(bytes.NewReader(b), int64(len(b)), "short"), image.OpenOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if wantErr == nil {
			imagetest.Same(t, want, r)
		} else if err := imagetest.OpenAndDrain(harness(), b); !errors.Is(err, wantErr) {
			t.Errorf("%d bytes: %v, want %v", n, err, wantErr)
		}
	}
}

// streamError opens b as a stream, reads it to its end and returns the error, nil for a good end.
func streamError(b []byte) error {
	s, err := vmdk.OpenStream(bytes.NewReader(b), -1)
	if err != nil {
		return err
	}
	dst := make([]byte, 2<<20)
	for {
		c, err := s.Next()
		if err != nil {
			if err.Error() == "EOF" {
				return nil
			}
			return err
		}
		err = c.Decode(dst[:c.Len])
		c.Release()
		if err != nil {
			return err
		}
	}
}

func TestDamagedStream(t *testing.T) {
	t.Parallel()
	b := stream(t)
	second := firstGrain + (12+int(binary.LittleEndian.Uint32(b[firstGrain+8:]))+sector-1)/sector*sector
	marker := func(value uint64, kind uint32) []byte {
		m := make([]byte, sector)
		binary.LittleEndian.PutUint64(m, value)
		binary.LittleEndian.PutUint32(m[12:], kind)
		return m
	}
	insert := func(at int, p []byte) func([]byte) []byte {
		return func(b []byte) []byte { return slices.Insert(b, at, p...) }
	}
	for name, d := range map[string]imagetest.Damage{
		"untouched":             damage(func(b []byte) []byte { return b }, nil),
		"twice the same grain":  damage(put64(second, 0), image.ErrCorrupt),
		"grain is moved":        damage(put64(second, 3*128), image.ErrCorrupt),
		"grain past the disk":   damage(put64(second, 10*128), image.ErrCorrupt),
		"grain of no grain":     damage(put64(second, 129), image.ErrCorrupt),
		"grain too large":       damage(put32(second+8, 2*grain+1), image.ErrCorrupt),
		"grain is missing":      damage(func(b []byte) []byte { return slices.Delete(b, firstGrain, second) }, image.ErrCorrupt),
		"marker of kind 9":      damage(insert(second, marker(0, 9)), image.ErrCorrupt),
		"progress shifts":       damage(insert(second, marker(0, 4)), image.ErrCorrupt), // the tables no longer agree
		"progress to the end":   damage(insert(second, marker(1<<63, 4)), image.ErrTruncated),
		"end too early":         damage(insert(second, marker(0, 0)), image.ErrCorrupt),
		"end with sectors":      damage(fromEnd(put64, sector, 1), image.ErrCorrupt),
		"table too small":       damage(insert(second, marker(1, 1)), image.ErrCorrupt),
		"one table too many":    damage(insert(second, append(marker(4, 1), make([]byte, 4*sector)...)), image.ErrCorrupt),
		"directory too small":   damage(fromEnd(put64, 5*sector, 0), image.ErrCorrupt),
		"footer of two sectors": damage(fromEnd(put64, 3*sector, 2), image.ErrCorrupt),
		"footer, other place":   damage(fromEnd(put64, 1024-56, 200), image.ErrCorrupt),
		"monolithicSparse":      damage(put32(8, 1), image.ErrUnsupported),
		"huge disk":             damage(put64(12, 1<<50), image.ErrLimit),
		"descriptor of 2^60":    damage(put64(36, 1<<60), image.ErrLimit),
		"descriptor too late":   damage(put64(28, 1000), image.ErrCorrupt),
		"overhead too small":    damage(put64(64, 3), image.ErrCorrupt),
		"overhead past the end": damage(put64(64, 1<<60), image.ErrTruncated),
		"descriptor file":       damage(putText(0, "# Disk DescriptorFile\n"), image.ErrReference),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := streamError(d.Patch(bytes.Clone(b))); !errors.Is(err, d.Want) {
				t.Errorf("error is %v, want %v", err, d.Want)
			}
		})
	}
}

// TestKinds checks that each kind of VMDK that is not read is refused by name.
func TestKinds(t *testing.T) {
	t.Parallel()
	describe := func(createType, more string) string {
		return "# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\ncreateType=\"" + createType + "\"\n" + more
	}
	for name, c := range map[string]struct {
		file string
		want error
		says string
	}{
		"monolithicFlat":        {describe("monolithicFlat", `RW 2048 FLAT "/etc/shadow" 0`), image.ErrReference, "/etc/shadow"},
		"twoGbMaxExtentSparse":  {describe("twoGbMaxExtentSparse", "RW 1 SPARSE \"a\"\nRW 1 SPARSE \"b\"\n"), image.ErrReference, "2 other files"},
		"vmfs":                  {describe("vmfs", `RW 2048 VMFS "x-flat.vmdk"`), image.ErrReference, "vmfs"},
		"snapshot":              {strings.Replace(describe("vmfsSparse", `RW 1 VMFSSPARSE "d"`), "ffffffff", "11111111", 1), image.ErrReference, "consolidate"},
		"parent hint":           {describe("monolithicSparse", "parentFileNameHint=\"base.vmdk\"\nRW 1 SPARSE \"d\""), image.ErrReference, "base.vmdk"},
		"physical disk":         {describe("fullDevice", `RW 1 FLAT "/dev/sda" 0`), image.ErrUnsupported, "physical"},
		"raw device mapping":    {describe("vmfsRDM", `RW 1 VMFSRDM "x-rdm.vmdk"`), image.ErrUnsupported, "physical"},
		"no extents":            {describe("monolithicFlat", ""), image.ErrCorrupt, "no extent"},
		"blanks, other letters": {"\r\n# DISK descriptorfile\r\nCREATETYPE = \"vmfs\"\r\nrw 5 vmfs \"q\"\r\n", image.ErrReference, `"q"`},
		"too many extents":      {describe("custom", strings.Repeat("RW 1 ZERO\n", 5000)), image.ErrLimit, "4096"},
		"too long":              {describe("custom", strings.Repeat("#\n", 300_000)), image.ErrLimit, "bytes"},
		"COWD":                  {"COWD\x01\x00\x00\x00", image.ErrUnsupported, "vmfsSparse"},
		"seSparse":              {"\xbe\xba\xfe\xca\x00\x00\x00\x00\x01", image.ErrUnsupported, "seSparse"},
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

func fuzzHarness() imagetest.Harness {
	h := harness()
	h.Variants = []imagetest.Variant{{Options: image.CreateOptions{ClusterSize: 4096}}}
	return h
}

func FuzzOpen(f *testing.F) {
	imagetest.AddSeeds(f, fuzzHarness())
	f.Add(both(put32(0, 0x564d444b), put32(4, 1), put64(12, 2048), put64(20, 8), put64(28, 1), put64(36, 1), put32(44, 512), put64(56, 2),
		putText(512, "createType=monolithicSparse\n"), put32(1024, 3), put32(1536, 4))(make([]byte, 16<<10)))
	f.Add([]byte("# Disk DescriptorFile\ncreateType=\"vmfs\"\nRW 1 VMFS \"x\"\n"))
	imagetest.FuzzReader(f, fuzzHarness())
}

func FuzzStream(f *testing.F) {
	imagetest.AddSeeds(f, fuzzHarness())
	imagetest.FuzzStream(f, fuzzHarness())
}
