package vhd_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/image/imagetest"
	"github.com/hyperplane-project/hyperplane/converters/vhd"
)

func damage(patch func([]byte) []byte, want error) imagetest.Damage {
	return imagetest.Damage{Patch: patch, Want: want}
}

func put32(at int, value uint32) func([]byte) []byte {
	return func(b []byte) []byte { binary.BigEndian.PutUint32(b[at:], value); return b }
}

func put64(at int, value uint64) func([]byte) []byte {
	return func(b []byte) []byte { binary.BigEndian.PutUint64(b[at:], value); return b }
}

func both(patches ...func([]byte) []byte) func([]byte) []byte {
	return func(b []byte) []byte {
		for _, p := range patches {
			b = p(b)
		}
		return b
	}
}

// inFooter patches the footer, at both places, and makes its checksum right.
func inFooter(patch func([]byte) []byte) func([]byte) []byte {
	return func(b []byte) []byte {
		copy(b[len(b)-sector:], sealFooter(patch(b[:sector])))
		return b
	}
}

// inHeader patches the header at offsets of its own.
func inHeader(patch func([]byte) []byte) func([]byte) []byte {
	return func(b []byte) []byte { patch(b[headAt:][:1024]); return sealHeader(b) }
}

func untouched(b []byte) []byte { return b }

// wipe clears a footer.
func wipe(b []byte) []byte { clear(b[:sector]); return b }

// fromEnd patches the footer at the end only.
func fromEnd(patch func([]byte) []byte) func([]byte) []byte {
	return func(b []byte) []byte { patch(b[len(b)-sector:]); return b }
}

func TestDamagedFooter(t *testing.T) {
	t.Parallel()
	imagetest.Damages(t, harness(), base().bytes(), map[string]imagetest.Damage{
		"untouched":              damage(untouched, nil),
		"no footer at the end":   damage(fromEnd(wipe), nil),
		"bad footer at the end":  damage(fromEnd(put32(64, 0)), nil),
		"no copy":                damage(wipe, nil),
		"bad copy":               damage(put32(64, 0), nil),
		"neither":                damage(both(wipe, fromEnd(wipe)), image.ErrWrongFormat),
		"both bad":               damage(both(put32(64, 0), fromEnd(put32(64, 0))), image.ErrCorrupt),
		"bad end, other kind":    damage(fromEnd(put32(60, 2)), image.ErrCorrupt),
		"footer one byte short":  damage(func(b []byte) []byte { return b[:len(b)-1] }, nil),
		"version 2":              damage(inFooter(put32(12, 2<<16)), image.ErrUnsupported),
		"version 1.7":            damage(inFooter(put32(12, 1<<16|7)), nil),
		"type 0":                 damage(inFooter(put32(60, 0)), image.ErrUnsupported),
		"type 5":                 damage(inFooter(put32(60, 5)), image.ErrUnsupported),
		"size above the table's": damage(inFooter(put64(48, 5*block)), image.ErrCorrupt),
		"size of 2^61 blocks":    damage(inFooter(put64(48, 1<<41)), image.ErrCorrupt),
		"size 2^63":              damage(inFooter(put64(48, 1<<63)), image.ErrLimit),
		"size 2^64-1":            damage(inFooter(put64(48, 1<<64-1)), image.ErrLimit),
		"no size":                damage(inFooter(put64(48, 0)), nil),
		"header in the footer":   damage(inFooter(put64(16, 0)), image.ErrCorrupt),
		"header past the end":    damage(inFooter(put64(16, 1<<40)), image.ErrCorrupt),
		"header at 2^64-1":       damage(inFooter(put64(16, 1<<64-1)), image.ErrCorrupt),
		"header at no header":    damage(inFooter(put64(16, tableAt)), image.ErrCorrupt),
		"differencing":           damage(inFooter(put32(60, 4)), image.ErrReference),
		"fixed without end":      damage(both(inFooter(put32(60, 2)), fromEnd(wipe)), image.ErrTruncated),
	})
}

func TestDamagedHeader(t *testing.T) {
	t.Parallel()
	imagetest.Damages(t, harness(), base().bytes(), map[string]imagetest.Damage{
		"bad checksum":         damage(put32(headAt+36, 0), image.ErrCorrupt),
		"version 2":            damage(inHeader(put32(24, 2<<16)), image.ErrUnsupported),
		"block of 0":           damage(inHeader(put32(32, 0)), image.ErrCorrupt),
		"block of 512":         damage(inHeader(put32(32, 512)), image.ErrCorrupt),
		"block of 6000":        damage(inHeader(put32(32, 6000)), image.ErrCorrupt),
		"block of 512 MiB":     damage(inHeader(put32(32, 512<<20)), image.ErrCorrupt),
		"block of 2^31":        damage(inHeader(put32(32, 1<<31)), image.ErrCorrupt),
		"no entries":           damage(inHeader(put32(28, 0)), image.ErrCorrupt),
		"3 entries":            damage(inHeader(put32(28, 3)), image.ErrCorrupt),
		"table of 2 GiB":       damage(both(inHeader(put32(28, 1<<32-1)), inFooter(put64(48, 2<<40))), image.ErrLimit),
		"2^32-1 entries":       damage(inHeader(put32(28, 1<<32-1)), nil), // only those the disk needs count
		"table past the end":   damage(inHeader(put64(16, 1<<40)), image.ErrTruncated),
		"table at 2^64-1":      damage(inHeader(put64(16, 1<<64-1)), image.ErrTruncated),
		"table in the footer":  damage(inHeader(put64(16, 0)), image.ErrCorrupt),
		"table on the header":  damage(inHeader(put64(16, headAt)), image.ErrCorrupt),
		"table across header":  damage(inHeader(put64(16, headAt+1020)), image.ErrCorrupt),
		"table, header behind": damage(inHeader(put64(16, headAt-4)), image.ErrCorrupt),
	})
}

// TestDamagedTable damages the table of a disk of four blocks, of which two are in the file.
func TestDamagedTable(t *testing.T) {
	t.Parallel()
	const first = (tableAt + sector) / sector // the first block's sector; the second one's is 9 more
	imagetest.Damages(t, harness(), base().bytes(), map[string]imagetest.Damage{
		"not allocated":        damage(put32(tableAt, unused), nil),
		"exchanged":            damage(both(put32(tableAt, first+9), put32(tableAt+4, first)), nil),
		"shared":               damage(put32(tableAt+4, first), image.ErrCorrupt),
		"overlap by a sector":  damage(put32(tableAt+4, first+8), image.ErrCorrupt),
		"overlap from below":   damage(both(put32(tableAt, first+9), put32(tableAt+4, first+1)), image.ErrCorrupt),
		"in the footer":        damage(put32(tableAt, 0), image.ErrCorrupt),
		"in the header":        damage(put32(tableAt, 2), image.ErrCorrupt),
		"in the table":         damage(put32(tableAt, tableAt/sector), image.ErrCorrupt),
		"into the footer":      damage(put32(tableAt+4, first+10), image.ErrTruncated),
		"past the end":         damage(put32(tableAt+4, first+1000), image.ErrTruncated),
		"at 2^32-2":            damage(put32(tableAt+4, unused-1), image.ErrTruncated),
		"file ends in a block": damage(func(b []byte) []byte { return b[:len(b)-sector-1] }, image.ErrTruncated),
	})
}

func TestDamagedDifferencing(t *testing.T) {
	t.Parallel()
	const first = (tableAt + 2*sector) / sector // behind the locator
	open := func(b []byte) error {
		dir := t.TempDir()
		save(t, dir, "base.vhd", base().bytes())
		r, err := imagetest.OpenPath(t, harness(), save(t, dir, "child.vhd", b))
		if err != nil {
			return err
		}
		defer func() { _ = r.Close() }()
		_, err = r.ReadAt(make([]byte, 4*block), 0)
		return err
	}
	for name, d := range map[string]imagetest.Damage{
		"untouched":              damage(untouched, nil),
		"block on the locator":   damage(put32(tableAt, first-1), image.ErrCorrupt),
		"bitmap past the end":    damage(put32(tableAt, 1<<30), image.ErrTruncated),
		"locator past the end":   damage(inHeader(put64(576+16, 1<<62)), image.ErrReference), // and no other name
		"locator at 2^64-1":      damage(inHeader(put64(576+16, 1<<64-1)), image.ErrReference),
		"locator of 2^32-1":      damage(inHeader(put32(576+8, 1<<32-1)), image.ErrReference),
		"locator of no platform": damage(inHeader(put32(576, 0)), image.ErrReference),
		"locator of a Mac":       damage(inHeader(put32(576, 0x4d616358)), image.ErrReference),
	} {
		if err := open(d.Patch(child().bytes())); !errors.Is(err, d.Want) {
			t.Errorf("%s: error is %v, want %v", name, err, d.Want)
		}
	}
}

// TestHugeTable opens a dynamic disk of 64 TiB with a table of 64 MiB. No memory is spent on the claim.
func TestHugeTable(t *testing.T) { //nolint:paralleltest // it counts the process' allocations
	d := disk{size: 64 << 40, kind: 3}
	b := append(d.footer(), make([]byte, 1024)...)
	copy(b[headAt:], base().bytes()[headAt:tableAt])
	b = inHeader(both(put32(28, 1<<24), put32(32, 4<<20)))(b)
	file := image.NewFile(freeFile{bytes.NewReader(b)}, 1<<50, "huge")
	var r image.Reader
	var err error
	if used := imagetest.Allocates(func() { r, err = vhd.Open(file, image.OpenOptions{}) }); err != nil || used > 1<<20 {
		t.Fatalf("opening allocates %d bytes, %v", used, err)
	}
	if used := imagetest.Allocates(func() { _, err = r.NextExtent(1 << 45) }); err != nil || used > 200<<20 {
		t.Errorf("one look-up allocates %d bytes, %v", used, err)
	}
}

// freeFile is a file that goes on with bytes of 0xff: entries of blocks that are not allocated.
type freeFile struct{ *bytes.Reader }

func (f freeFile) ReadAt(p []byte, off int64) (int, error) {
	n := 0
	if off < f.Size() {
		n, _ = f.Reader.ReadAt(p, off) // what is past the end is added
	}
	for i := range p[n:] {
		p[n+i] = 0xff
	}
	return len(p), nil
}

func TestWrongFormat(t *testing.T) {
	t.Parallel()
	for _, b := range []string{"", "c", "conectix", string(make([]byte, 511)), string(make([]byte, 5000))} {
		_, err := vhd.Open(image.NewFile(bytes.NewReader([]byte(b)), int64(len(b)), "x"), image.OpenOptions{Snapshot: "1"})
		if !errors.Is(err, image.ErrWrongFormat) {
			t.Errorf("%d bytes: %v, want ErrWrongFormat", len(b), err)
		}
	}
}

func FuzzOpen(f *testing.F) {
	h := harness()
	f.Add(base().bytes())
	f.Add(child().bytes())
	imagetest.AddSeeds(f, imagetest.Harness{Format: h.Format, Variants: h.Variants[2:]})
	imagetest.FuzzReader(f, h)
}

// FuzzSealed fuzzes images whose checksums are right, so that what is behind them is reached, and whose parent is there.
func FuzzSealed(f *testing.F) {
	h := harness()
	open := h.Format.Open
	h.Format.Open = func(file image.File, o image.OpenOptions) (image.Reader, error) {
		b := make([]byte, file.Size())
		if n, _ := file.ReadAt(b, 0); n < tableAt {
			return nil, image.ErrWrongFormat
		}
		b = sealHeader(inFooter(untouched)(b))
		o.Refs = parents{}
		return open(image.NewFile(bytes.NewReader(b), int64(len(b)), "sealed"), o)
	}
	f.Add(base().bytes())
	f.Add(child().bytes())
	imagetest.FuzzReader(f, h)
}

// parents opens base, whatever is asked for.
type parents struct{}

func (parents) File(ref image.Reference) (image.File, error) { return nil, image.Referencef("%v", ref) }

func (parents) Image(image.Reference, string) (image.Reader, error) {
	b := base().bytes()
	return vhd.Open(image.NewFile(bytes.NewReader(b), int64(len(b)), "base"), image.OpenOptions{})
}

// TestOverlapFarApart looks for overlaps in a file so large that the table is walked more than once, at the place where the walks meet.
func TestOverlapFarApart(t *testing.T) {
	t.Parallel()
	const meet = 4 << 20 * (block + sector) / sector // the first sector of the second walk
	for second, want := range map[uint32]error{meet + 8: nil, meet + 7: image.ErrCorrupt} {
		b := both(put32(tableAt, meet-1), put32(tableAt+4, second))(base().bytes())
		file := image.NewFile(freeFile{bytes.NewReader(b)}, 1<<40, "large")
		r, err := vhd.Open(file, image.OpenOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err = r.NextExtent(0); !errors.Is(err, want) {
			t.Errorf("second block at sector %d: %v, want %v", second, err, want)
		}
	}
}
