package qcow2_test

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/image/imagetest"
	"github.com/hyperplane-project/hyperplane/converters/qcow2"
	"github.com/hyperplane-project/hyperplane/internal/procexec"
)

// Offsets in a header, and in the plain image of good: header, L1, refcount table and block, L2, clusters.
const (
	cluster = 64 << 10
	l1At    = 1 * cluster
	l2At    = 4 * cluster
	dataAt  = 5 * cluster
)

// good is an image of three clusters of content, the first two adjoining.
func good(t *testing.T, compression string) []byte {
	t.Helper()
	v := imagetest.Variant{Options: image.CreateOptions{Compression: compression}}
	return imagetest.Bytes(t, harness(), v, goodDisk())
}

func goodDisk() *imagetest.Disk {
	return &imagetest.Disk{Size: 10 * cluster, Pieces: []imagetest.Piece{
		{Off: 0, Len: 2 * cluster, Content: imagetest.Text}, {Off: 5 * cluster, Len: 100, Content: imagetest.Text},
	}}
}

func put32(at int, value uint32) func([]byte) []byte {
	return func(b []byte) []byte { binary.BigEndian.PutUint32(b[at:], value); return b }
}

func put64(at int, value uint64) func([]byte) []byte {
	return func(b []byte) []byte { binary.BigEndian.PutUint64(b[at:], value); return b }
}

func damage(patch func([]byte) []byte, want error) imagetest.Damage {
	return imagetest.Damage{Patch: patch, Want: want}
}

func both(patches ...func([]byte) []byte) func([]byte) []byte {
	return func(b []byte) []byte {
		for _, p := range patches {
			b = p(b)
		}
		return b
	}
}

func TestDamagedHeader(t *testing.T) {
	t.Parallel()
	backing := func(name string) func([]byte) []byte {
		return both(put64(8, 200), put32(16, uint32(len(name))), func(b []byte) []byte { copy(b[200:], name); return b })
	}
	imagetest.Damages(t, harness(), good(t, ""), map[string]imagetest.Damage{
		"untouched":                    damage(func(b []byte) []byte { return b }, nil),
		"version 1":                    damage(put32(4, 1), image.ErrWrongFormat),
		"version 4":                    damage(put32(4, 4), image.ErrUnsupported),
		"cluster bits 0":               damage(put32(20, 0), image.ErrCorrupt),
		"cluster bits 8":               damage(put32(20, 8), image.ErrCorrupt),
		"cluster bits 22":              damage(put32(20, 22), image.ErrCorrupt),
		"cluster bits 64":              damage(put32(20, 64), image.ErrCorrupt),
		"cluster bits 4294967295":      damage(put32(20, 1<<32-1), image.ErrCorrupt),
		"virtual size 2^63":            damage(put64(24, 1<<63), image.ErrLimit),
		"virtual size above the L1":    damage(put64(24, 1<<40), image.ErrCorrupt),
		"AES":                          damage(put32(32, 1), image.ErrEncrypted),
		"LUKS":                         damage(put32(32, 2), image.ErrEncrypted),
		"unknown encryption":           damage(put32(32, 3), image.ErrUnsupported),
		"L1 of 2^32-1 entries":         damage(put32(36, 1<<32-1), image.ErrLimit),
		"L1 of 2^22+1 entries":         damage(put32(36, 1<<22+1), image.ErrLimit),
		"L1 of no entries":             damage(put32(36, 0), image.ErrCorrupt),
		"L1 at no cluster":             damage(put64(40, l1At+8), image.ErrCorrupt),
		"L1 past the end":              damage(put64(40, 1<<40), image.ErrTruncated),
		"L1 at 2^64-65536":             damage(put64(40, 1<<64-cluster), image.ErrCorrupt),
		"refcounts past the end":       damage(put64(48, 1<<40), image.ErrTruncated),
		"refcount table of 2^32-1":     damage(put32(56, 1<<32-1), image.ErrTruncated),
		"unknown feature":              damage(put64(72, 1<<5), image.ErrUnsupported),
		"unknown compatible feature":   damage(put64(80, 1<<63), nil),
		"unknown autoclear feature":    damage(put64(88, 1<<63), nil),
		"dirty":                        damage(put64(72, 1), nil),
		"marked corrupt":               damage(put64(72, 2), nil),
		"external data":                damage(put64(72, 4), image.ErrReference),
		"refcount order 7":             damage(put32(96, 7), image.ErrCorrupt),
		"header of 96 bytes":           damage(put32(100, 96), image.ErrCorrupt),
		"header of 107 bytes":          damage(put32(100, 107), image.ErrCorrupt),
		"header above the cluster":     damage(put32(100, cluster+8), image.ErrCorrupt),
		"compression type 2":           damage(both(put64(72, 8), put32(104, 2<<24)), image.ErrUnsupported),
		"no room for compression type": damage(both(put64(72, 8), put32(100, 104)), image.ErrCorrupt),
		"snapshots without a table":    damage(put32(60, 3), image.ErrCorrupt),
		"extension past the header":    damage(both(put32(112, 0x1234), put32(116, 1<<32-1)), image.ErrCorrupt),
		"unknown extension":            damage(both(put32(112, 0x1234), put32(116, 13), put32(136, 0)), nil),
		"bitmaps":                      damage(both(put32(112, 0x23852875), put32(116, 24), put32(144, 0)), nil),
		"data file name":               damage(both(put32(112, 0x44415441), put32(116, 8), put64(120, 0x2f6574632f706173)), image.ErrReference),
		"backing file":                 damage(backing("/etc/passwd"), image.ErrReference),
		"backing file of json":         damage(backing(`json:{"driver":"nbd"}`), image.ErrReference),
		"backing name of 1024 bytes":   damage(both(backing("x"), put32(16, 1024)), image.ErrCorrupt),
		"backing name past the header": damage(both(backing("x"), put64(8, cluster)), image.ErrCorrupt),
		"backing name at 2^64-1":       damage(both(backing("x"), put64(8, 1<<64-1)), image.ErrCorrupt),
	})
}

func TestDamagedTables(t *testing.T) {
	t.Parallel()
	imagetest.Damages(t, harness(), good(t, ""), map[string]imagetest.Damage{
		"L2 at no cluster":  damage(put64(l1At, 1<<63|l2At+512), image.ErrCorrupt),
		"L2 past the end":   damage(put64(l1At, 1<<63|1<<40), image.ErrTruncated),
		"L2 across the end": damage(put64(l1At, 1<<63|8*cluster), image.ErrTruncated),
		"L2 is the L1":      damage(put64(l1At, 1<<63|l1At), nil),
		"L2 is the header":  damage(put64(l1At, 1<<63), nil), // offset 0: no table
		"shared L2 tables": damage(both(put64(24, 100<<29), put32(36, 100), func(b []byte) []byte {
			for i := range 100 {
				b = put64(l1At+8*i, 1<<63|l2At)(b)
			}
			return b
		}), image.ErrCorrupt),
		"cluster at no cluster":         damage(put64(l2At, 1<<63|dataAt+512), image.ErrCorrupt),
		"cluster past the end":          damage(put64(l2At, 1<<63|1<<40), image.ErrTruncated),
		"cluster is the L2":             damage(put64(l2At, 1<<63|l2At), nil),
		"zero flag":                     damage(put64(l2At, 1), nil),
		"zero flag and cluster":         damage(put64(l2At, 1<<63|dataAt|1), nil),
		"zero flag in version 2":        damage(both(put32(4, 2), put64(l2At, 1)), image.ErrCorrupt),
		"compressed past the end":       damage(put64(l2At, 1<<62|1<<40), image.ErrTruncated),
		"compressed text":               damage(put64(l2At, 1<<62|dataAt), image.ErrCorrupt),
		"extended, 4 KiB":               damage(both(put64(72, 16), put32(20, 12), put32(36, 1<<10), put64(24, 4096)), image.ErrCorrupt),
		"subcluster zero and allocated": damage(both(put64(72, 16), put64(l2At+8, 1<<32|1)), image.ErrCorrupt),
		"subcluster without cluster":    damage(both(put64(72, 16), put64(l2At, 0), put64(l2At+8, 1)), image.ErrCorrupt),
	})
}

// stream returns n bytes as a deflate stream.
func stream(t *testing.T, n int) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, 9)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(make([]byte, n)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestDamagedCompression(t *testing.T) {
	t.Parallel()
	b := good(t, "zlib")
	// The L2 table's first entry has the place of the first stream.
	l2 := int64(binary.BigEndian.Uint64(b[l1At:]) &^ (1 << 63))
	first := int64(binary.BigEndian.Uint64(b[l2:]) & (1<<54 - 1))
	replace := func(s []byte) func([]byte) []byte {
		return func(b []byte) []byte { copy(b[first:], s); return b }
	}
	imagetest.Damages(t, harness(), b, map[string]imagetest.Damage{
		"good":           damage(replace(stream(t, cluster)), nil),
		"one byte more":  damage(replace(stream(t, cluster+1)), image.ErrCorrupt),
		"one byte less":  damage(replace(stream(t, cluster-1)), image.ErrCorrupt),
		"bomb":           damage(replace(stream(t, 60*cluster)), image.ErrCorrupt),
		"garbage":        damage(replace([]byte{0xff, 0xff, 0xff, 0xff}), image.ErrCorrupt),
		"sector missing": damage(func(b []byte) []byte { put64(int(l2), 1<<62|uint64(first))(b); return b }, image.ErrTruncated),
	})
	z := good(t, "zstd")
	imagetest.Damages(t, harness(), z, map[string]imagetest.Damage{
		"zstd garbage": damage(replace([]byte{0xff, 0xff, 0xff, 0xff}), image.ErrCorrupt),
		"zstd reserved block": damage(func(b []byte) []byte {
			i := bytes.Index(b[first:], []byte{0x28, 0xb5, 0x2f, 0xfd})
			b[first+int64(i)+4] = 0xff // all flags: sizes that are not there
			return b
		}, image.ErrCorrupt),
	})
}

// TestHugeTables opens an image whose header claims the largest tables allowed. No memory is spent on the claim.
func TestHugeTables(t *testing.T) { //nolint:paralleltest // it counts the process' allocations
	const size = 1 << 40
	b := imagetest.Bytes(t, harness(), imagetest.Variant{}, &imagetest.Disk{Size: size})
	b = put32(36, 1<<22)(b)
	b = put64(24, 1<<22*(512<<20))(b) // 2 PiB
	file := image.NewFile(hugeFile{bytes.NewReader(b)}, 1<<50, "huge")
	var r image.Reader
	var err error
	used := imagetest.Allocates(func() { r, err = qcow2.Open(file, image.OpenOptions{}) })
	if err != nil {
		t.Fatal(err)
	}
	if used > 1<<20 {
		t.Errorf("opening allocates %d bytes", used)
	}
	used = imagetest.Allocates(func() { _, err = r.NextExtent(1 << 50) })
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

// TestWarnings looks for what is read although it is odd.
func TestWarnings(t *testing.T) {
	t.Parallel()
	b := put64(72, 3)(good(t, ""))
	r, err := qcow2.Open(image.NewFile(bytes.NewReader(b), int64(len(b)), "odd"), image.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if w := r.Info().Warnings; len(w) != 2 {
		t.Errorf("warnings are %q, want dirty and corrupt", w)
	}
}

func TestWrongFormat(t *testing.T) {
	t.Parallel()
	for _, b := range []string{"", "Q", "QFI", "QFI\xfc\x00\x00\x00\x02", "QFI\xfb\x00\x00\x00\x01", "KDMV"} {
		if _, err := qcow2.Open(image.NewFile(bytes.NewReader([]byte(b)), int64(len(b)), "x"), image.OpenOptions{}); !errors.Is(err, image.ErrWrongFormat) {
			t.Errorf("%q: %v, want ErrWrongFormat", b, err)
		}
	}
}

func FuzzOpen(f *testing.F) {
	h := harness()
	for i := range h.Variants {
		if o := &h.Variants[i].Options; o.ClusterSize == 0 && o.Variant == "" {
			o.ClusterSize = 512 // small images
		}
	}
	h.Variants = slices.DeleteFunc(h.Variants, func(v imagetest.Variant) bool { return v.Options.ClusterSize == 0 || v.Options.ClusterSize > 16<<10 })
	imagetest.AddSeeds(f, h)
	f.Add(smallSnapshots(f))
	imagetest.FuzzReader(f, h)
}

// FuzzCheck examines what is opened for its description alone, which images that need other files can be too.
func FuzzCheck(f *testing.F) {
	h := harness()
	h.Variants = []imagetest.Variant{{Options: image.CreateOptions{ClusterSize: 512, Backing: &image.Backing{Name: "base", Format: "raw"}}}}
	imagetest.AddSeeds(f, h)
	f.Add(smallSnapshots(f))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := qcow2.Open(image.NewFile(bytes.NewReader(b), int64(len(b)), "fuzz"), image.OpenOptions{InfoOnly: true})
		if err == nil {
			err = r.(image.Checker).Check(t.Context(), func(image.Finding) {})
		}
		if err != nil && !imagetest.Refused(err) {
			t.Fatalf("%v: is no error an image is refused with", err)
		}
	})
}

// smallSnapshots is an image of clusters of 512 bytes with two snapshots, for a fuzz test.
func smallSnapshots(f *testing.F) []byte {
	f.Helper()
	dir := f.TempDir()
	path := filepath.Join(dir, "small.qcow2")
	for _, args := range [][]string{
		{"create", "-q", "-f", "qcow2", "-o", "cluster_size=512", path, "40k"},
		{"snapshot", "-c", "first", path},
		{"bitmap", "--add", path, "changes"},
		{"snapshot", "-c", "second", path},
	} {
		if _, err := (procexec.Runner{}).Run(f.Context(), procexec.Command{Program: "qemu-img", Args: args}); err != nil {
			f.Fatal(err)
		}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	return b
}
