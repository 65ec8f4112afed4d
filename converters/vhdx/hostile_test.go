package vhdx_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/image/imagetest"
	"github.com/hyperplane-project/hyperplane/converters/vhdx"
)

func damage(patch func([]byte) []byte, want error) imagetest.Damage {
	return imagetest.Damage{Patch: patch, Want: want}
}

func TestDamagedHeaders(t *testing.T) {
	t.Parallel()
	imagetest.Damages(t, harness(), good(t), map[string]imagetest.Damage{
		"untouched":              damage(untouched, nil),
		"no identifier":          damage(putBytes(0, 'V'), image.ErrWrongFormat),
		"first header bad":       damage(putBytes(header1+100, 1), nil),
		"second header bad":      damage(putBytes(header2+100, 1), nil),
		"both bad":               damage(both(putBytes(header1+100, 1), putBytes(header2+100, 1)), image.ErrCorrupt),
		"same number, different": damage(both(put64(header1+8, 2), put64(header1+72, 8*mib), sealAll), image.ErrCorrupt),
		"same number, same":      damage(inHeaders(put64(8, 7)), nil),
		"old header nonsense":    damage(both(put16(header1+66, 9), sealAll), nil),
		"version 2":              damage(inHeaders(put16(66, 2)), image.ErrUnsupported),
		"log at 2^64-1":          damage(inHeaders(put64(72, 1<<64-1)), image.ErrCorrupt),
		"log in the headers":     damage(inHeaders(put64(72, 0)), image.ErrCorrupt),
		"log at no MiB":          damage(inHeaders(put64(72, mib+4096)), image.ErrCorrupt),
		"log of no MiB":          damage(inHeaders(put32(68, 4096)), image.ErrCorrupt),
		"log on the metadata":    damage(inHeaders(put64(72, metadataAt)), image.ErrCorrupt),
		"log reaches the BAT":    damage(inHeaders(put32(68, 3*mib)), image.ErrCorrupt),
		"log over a block":       damage(inHeaders(put64(72, block2)), image.ErrCorrupt),
		"log of 4 GiB":           damage(inHeaders(both(put32(68, 4095*mib), put64(72, 8*mib))), nil), // it is empty
	})
}

func TestDamagedRegions(t *testing.T) {
	t.Parallel()
	other := func(i int, at, size uint64, required uint32) func([]byte) []byte {
		return both(putBytes(16+32*i, 0xaa), put64(32+32*i, at), put32(40+32*i, uint32(size)), put32(44+32*i, required), put32(8, uint32(i+1)))
	}
	secondBAT := func(at uint64) func([]byte) []byte {
		return inRegions(both(func(b []byte) []byte { copy(b[80:], b[16:48]); return b }, put64(96, at), put32(8, 3)))
	}
	imagetest.Damages(t, harness(), good(t), map[string]imagetest.Damage{
		"first bad":               damage(putBytes(regions1+100, 1), nil),
		"second bad":              damage(putBytes(regions2+100, 1), nil),
		"both bad":                damage(both(putBytes(regions1+100, 1), putBytes(regions2+100, 1)), image.ErrCorrupt),
		"2048 entries":            damage(inRegions(put32(8, 2048)), image.ErrCorrupt),
		"2^32-1 entries":          damage(inRegions(put32(8, 1<<32-1)), image.ErrCorrupt),
		"no entries":              damage(inRegions(put32(8, 0)), image.ErrCorrupt),
		"no metadata":             damage(inRegions(put32(8, 1)), image.ErrCorrupt),
		"no BAT":                  damage(inRegions(other(0, batAt, mib, 0)), image.ErrCorrupt),
		"unknown, required":       damage(inRegions(other(2, 9*mib, mib, 1)), image.ErrUnsupported),
		"unknown, not required":   damage(inRegions(other(2, 9*mib, mib, 0)), nil),
		"unknown on the BAT":      damage(inRegions(other(2, batAt, mib, 0)), image.ErrCorrupt),
		"unknown on a block":      damage(inRegions(other(2, block0, mib, 0)), image.ErrCorrupt),
		"BAT twice":               damage(secondBAT(9*mib), image.ErrTruncated),
		"BAT twice, in the file":  damage(secondBAT(block2), image.ErrCorrupt),
		"BAT at no MiB":           damage(inRegions(put64(32, batAt+4096)), image.ErrCorrupt),
		"BAT in the headers":      damage(inRegions(put64(32, 0)), image.ErrCorrupt),
		"BAT past the end":        damage(inRegions(put64(32, 1<<40)), image.ErrTruncated),
		"BAT at 2^64-1 MiB":       damage(inRegions(put64(32, 1<<64-mib)), image.ErrCorrupt),
		"BAT of nothing":          damage(inRegions(put32(40, 0)), image.ErrCorrupt),
		"BAT of 4 GiB":            damage(inRegions(put32(40, 4095*mib)), image.ErrTruncated),
		"BAT on the log":          damage(inRegions(put64(32, logAt)), image.ErrCorrupt),
		"BAT on the metadata":     damage(inRegions(put64(32, metadataAt)), image.ErrCorrupt),
		"metadata at other place": damage(inRegions(put64(64, block2)), image.ErrCorrupt),
	})
}

func TestDamagedMetadata(t *testing.T) {
	t.Parallel()
	// The items in their order: parameters, size, logical sector, physical sector, id of the disk.
	item := func(i int) int { return metadataAt + 32 + 32*i }
	const size, logical = itemsAt + 8, itemsAt + 16
	unknown := "12345678-1234-1234-1234-123456789abc"
	imagetest.Damages(t, harness(), good(t), map[string]imagetest.Damage{
		"no signature":           damage(putBytes(metadataAt, 'M'), image.ErrCorrupt),
		"2048 entries":           damage(put16(metadataAt+10, 2048), image.ErrCorrupt),
		"65535 entries":          damage(put16(metadataAt+10, 65535), image.ErrCorrupt),
		"no entries":             damage(put16(metadataAt+10, 0), image.ErrCorrupt),
		"unknown, required":      damage(addItem(unknown, 4, []byte("x")), image.ErrUnsupported),
		"unknown, not required":  damage(addItem(unknown, 0, []byte("x")), nil),
		"user's, required":       damage(addItem(unknown, 5, []byte("x")), image.ErrUnsupported),
		"user's size":            damage(addItem("2fa54224-cd1b-4876-b211-5dbed83bf4b8", 1, []byte("12345678")), nil),
		"size twice":             damage(addItem("2fa54224-cd1b-4876-b211-5dbed83bf4b8", 6, []byte("12345678")), image.ErrCorrupt),
		"no size":                damage(both(putBytes(item(1), 0xff), put32(item(1)+24, 0)), image.ErrCorrupt),
		"item in the table":      damage(put32(item(1)+16, 32), image.ErrCorrupt),
		"item past the region":   damage(put32(item(1)+16, mib-4), image.ErrCorrupt),
		"item at 2^32-1":         damage(put32(item(1)+16, 1<<32-1), image.ErrCorrupt),
		"item of 4 bytes":        damage(put32(item(1)+20, 4), image.ErrCorrupt),
		"item of 2^32-1 bytes":   damage(put32(item(1)+20, 1<<32-1), image.ErrCorrupt),
		"block of 0":             damage(put32(itemsAt, 0), image.ErrCorrupt),
		"block of 512 KiB":       damage(put32(itemsAt, 512*kib), image.ErrCorrupt),
		"block of 3 MiB":         damage(put32(itemsAt, 3*mib), image.ErrCorrupt),
		"block of 512 MiB":       damage(put32(itemsAt, 512*mib), image.ErrCorrupt),
		"block of 2 GiB":         damage(put32(itemsAt, 1<<31), image.ErrCorrupt),
		"size above 64 TiB":      damage(put64(size, 64<<40+512), image.ErrLimit),
		"size 2^64-512":          damage(put64(size, 1<<64-512), image.ErrLimit),
		"size of no sectors":     damage(put64(size, 1000), image.ErrCorrupt),
		"size 0":                 damage(put64(size, 0), nil),
		"size above the BAT's":   damage(put64(size, 200_000*mib), image.ErrCorrupt),
		"sector of 0":            damage(put32(logical, 0), image.ErrCorrupt),
		"sector of 1024":         damage(put32(logical, 1024), image.ErrCorrupt),
		"sector of 4096":         damage(put32(logical, 4096), nil),
		"parent without locator": damage(put32(itemsAt+4, 2), image.ErrCorrupt),
		"parent":                 damage(differencing(locator("relative_path", `.\base.vhdx`, "parent_linkage", "{}")), image.ErrReference),
	})
}

func TestDamagedBAT(t *testing.T) {
	t.Parallel()
	const bat2 = batAt + 2*8
	imagetest.Damages(t, harness(), good(t), map[string]imagetest.Damage{
		"undefined":                damage(put64(batAt, at(block0, 1)), nil),
		"zero":                     damage(put64(batAt, at(block0, 2)), nil),
		"unmapped":                 damage(put64(batAt, at(block0, 3)), nil),
		"not present, with offset": damage(put64(batAt, at(0, 0)|1<<50), nil),
		"state 4":                  damage(put64(batAt, at(block0, 4)), image.ErrCorrupt),
		"state 5":                  damage(put64(batAt, at(block0, 5)), image.ErrCorrupt),
		"partial":                  damage(put64(batAt, at(block0, 7)), image.ErrCorrupt),
		"reserved bits":            damage(put64(batAt, at(block0, 6)|0xffff8), nil),
		"exchanged":                damage(both(put64(batAt, at(block2, 6)), put64(bat2, at(block0, 6))), nil),
		"shared":                   damage(put64(bat2, at(block0, 6)), image.ErrCorrupt),
		"on the headers":           damage(put64(batAt, at(0, 6)), image.ErrCorrupt),
		"on the log":               damage(put64(batAt, at(logAt, 6)), image.ErrCorrupt),
		"on the metadata":          damage(put64(batAt, at(metadataAt, 6)), image.ErrCorrupt),
		"on the BAT":               damage(put64(batAt, at(batAt, 6)), image.ErrCorrupt),
		"past the end":             damage(put64(batAt, at(9*mib, 6)), image.ErrTruncated),
		"far past the end":         damage(put64(batAt, at(1<<61, 6)), image.ErrTruncated),
		"at 2^64-1 MiB":            damage(put64(batAt, at(1<<64-mib, 6)), image.ErrCorrupt),
		"file ends in a block":     damage(func(b []byte) []byte { return b[:len(b)-1] }, image.ErrTruncated),
	})
}

// TestHugeTable opens an image of 64 TiB, whose BAT has 512 MiB. No memory is spent on the claim.
func TestHugeTable(t *testing.T) { //nolint:paralleltest // it counts the process' allocations
	b := good(t)
	b = put64(itemsAt+8, 64<<40)(b)
	b = inRegions(both(put64(32, 1<<40), put32(40, 513*mib)))(b)
	file := image.NewFile(hugeFile{bytes.NewReader(b)}, 1<<50, "huge")
	var r image.Reader
	var err error
	if used := imagetest.Allocates(func() { r, err = vhdx.Open(file, image.OpenOptions{}) }); err != nil || used > 1<<20 {
		t.Fatalf("opening allocates %d bytes, %v", used, err)
	}
	_ = r.Close()
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

func TestWrongFormat(t *testing.T) {
	t.Parallel()
	for _, b := range []string{"", "v", "vhdxfil", "VHDXFILE", string(make([]byte, 5000))} {
		if _, err := openBytes(t, []byte(b), image.OpenOptions{Snapshot: "1"}); !errors.Is(err, image.ErrWrongFormat) {
			t.Errorf("%d bytes: %v, want ErrWrongFormat", len(b), err)
		}
	}
}

// TestWarnings looks for what is read although it is odd.
func TestWarnings(t *testing.T) {
	t.Parallel()
	b := both(putBytes(header1+100, 1), putBytes(regions1+100, 1))(good(t))
	r, err := openBytes(t, b, image.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if w := r.Info().Warnings; len(w) != 2 {
		t.Errorf("warnings are %q, want a header and a region table", w)
	}
}

func TestRefusedOptions(t *testing.T) {
	t.Parallel()
	for _, o := range []image.OpenOptions{{Snapshot: "1"}, {Member: "disk"}} {
		if _, err := openBytes(t, good(t), o); !errors.Is(err, image.ErrUnsupported) {
			t.Errorf("%+v: %v", o, err)
		}
	}
	for _, o := range []image.CreateOptions{
		{Variant: "differencing"},
		{ClusterSize: 512 * kib},
		{ClusterSize: 3 * mib},
		{ClusterSize: 512 * mib},
		{ClusterSize: -1},
		{Compression: "zlib"},
		{VirtualSize: 64<<40 + 1},
		{VirtualSize: 20 << 40, ClusterSize: mib}, // the BAT would take too much memory
		{VirtualSize: -1},
		{Backing: &image.Backing{Name: "x", Format: "vhdx"}},
	} {
		if _, err := vhdx.Create(nil, o); err == nil {
			t.Errorf("%+v is no error", o)
		}
	}
}
