package vhdx_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/image/imagetest"
	"github.com/hyperplane-project/hyperplane/converters/vhdx"
)

// baseID is the DataWriteGuid of what imagetest writes.
const baseID = "{00000012-0000-0000-0000-000000000034}"

// ratio is how many blocks of 1 MiB share a bitmap.
const ratio = 4096

func linked(key, name string) []byte { return locator(key, name, "parent_linkage", baseID) }

// child makes good an image of differences: of the first MiB it has sectors 1, 2 and 8, of the second nothing, of the third all, and the rest is zeros.
func child(locator []byte) func([]byte) []byte {
	return both(
		differencing(locator),
		put64(batAt, at(block0, 7)),
		put64(batAt+8, at(0, 0)),
		put64(batAt+16, at(block2, 6)),
		put64(batAt+24, at(0, 2)),
		put64(batAt+8*ratio, at(6*mib, 6)),
		func(b []byte) []byte { return append(b[:6*mib], make([]byte, mib)...) },
		putBytes(6*mib, 0b0000_0110, 0b0000_0001),
		inHeaders(putBytes(32, 2)), // another DataWriteGuid
	)
}

// base is the disk that imagetest writes as the parent.
func base() *imagetest.Disk {
	return &imagetest.Disk{Size: 3*mib + 512*kib, Pieces: []imagetest.Piece{{Off: 0, Len: 3*mib + 512*kib, Content: imagetest.Random}}}
}

func baseBytes(t *testing.T) []byte {
	t.Helper()
	return imagetest.Bytes(t, harness(), imagetest.Variant{}, base())
}

// childContent is what child over base reads as, with sectors of the given size.
func childContent(t *testing.T, sector int) []byte {
	t.Helper()
	own := content(t, mustOpen(t, good(t)))
	want := content(t, mustOpen(t, baseBytes(t)))
	for _, s := range []int{1, 2, 8} {
		copy(want[s*sector:][:sector], own[s*sector:])
	}
	copy(want[2*mib:3*mib], own[2*mib:])
	clear(want[3*mib:])
	return want
}

func TestDifferencing(t *testing.T) {
	t.Parallel()
	parent, good := baseBytes(t), good(t)
	for name, locator := range map[string][]byte{
		"relative":          locator("absolute_win32_path", `C:\other.vhdx`, "relative_path", `.\base.vhdx`, "parent_linkage", baseID),
		"relative, folders": linked("relative_path", `..\..\VMs\base.vhdx`),
		"absolute":          linked("absolute_win32_path", `C:\VMs\base.vhdx`),
		"volume":            linked("volume_path", `\\?\Volume{26A21BDA-A627-11D7-9931-806E6F6E6963}\base.vhdx`),
		"Unix":              linked("relative_path", "/etc/../base.vhdx"),
	} {
		for _, sector := range []int{512, 4096} {
			t.Run(fmt.Sprint(name, sector), func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				save(t, dir, "base.vhdx", parent)
				b := child(locator)(slices.Clone(good))
				if sector == 4096 { // a chunk has eight times as many blocks: its bitmap's entry is further back
					b = both(put32(itemsAt+16, 4096), put64(batAt+8*ratio, 0), put64(batAt+8*8*ratio, at(6*mib, 6)))(b)
					b = inRegions(both(put64(32, 7*mib)))(append(b, b[batAt:][:mib]...))
				}
				r := imagetest.Open(t, harness(), save(t, dir, "child.vhdx", b))
				if !bytes.Equal(content(t, r), childContent(t, sector)) {
					t.Error("content differs")
				}
				if info := r.Info(); info.Variant != "differencing" || info.SectorSize != int64(sector) || info.References[0].Format != "vhdx" {
					t.Errorf("info is %+v", info)
				}
			})
		}
	}
}

func TestChain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	save(t, dir, "base.vhdx", baseBytes(t))
	save(t, dir, "child.vhdx", child(linked("relative_path", "base.vhdx"))(good(t)))
	top := both(
		differencing(locator("relative_path", "child.vhdx", "parent_linkage", "{00000002-0000-0000-0000-000000000034}")),
		put64(batAt, 0), put64(batAt+16, at(block2, 2)),
	)(good(t))
	want := childContent(t, 512)
	clear(want[2*mib : 3*mib])
	r := imagetest.Open(t, harness(), save(t, dir, "top.vhdx", top))
	if !bytes.Equal(content(t, r), want) {
		t.Error("content differs")
	}
}

func TestRefusedParents(t *testing.T) {
	t.Parallel()
	good, parent := good(t), baseBytes(t)
	for name, c := range map[string]struct {
		locator []byte
		parent  []byte
		want    error
	}{
		"missing":            {linked("relative_path", "base.vhdx"), nil, image.ErrReference},
		"other content":      {locator("relative_path", "base.vhdx", "parent_linkage", "{00000013-0000-0000-0000-000000000034}"), parent, image.ErrReference},
		"no linkage":         {locator("relative_path", "base.vhdx"), parent, image.ErrReference},
		"no name":            {locator("parent_linkage", baseID), parent, image.ErrReference},
		"itself":             {linked("relative_path", "child.vhdx"), nil, image.ErrReference},
		"loop":               {linked("relative_path", "base.vhdx"), child(linked("relative_path", "child.vhdx"))(slices.Clone(good)), image.ErrReference},
		"other type":         {append(guid("12345678-1234-1234-1234-123456789abc"), 0, 0, 0, 0), parent, image.ErrUnsupported},
		"65535 entries":      {append(guid("b04aefb7-d19e-4a81-b789-25b8e9445913"), 0, 0, 0xff, 0xff), parent, image.ErrCorrupt},
		"key outside":        {put32(20, 1<<32-1)(linked("relative_path", "base.vhdx")), parent, image.ErrCorrupt},
		"value outside":      {put32(24, 1000)(linked("relative_path", "base.vhdx")), parent, image.ErrCorrupt},
		"value of 65535":     {put16(30, 65535)(linked("relative_path", "base.vhdx")), parent, image.ErrCorrupt},
		"short locator":      {guid("b04aefb7-d19e-4a81-b789-25b8e9445913"), parent, image.ErrCorrupt},
		"locator of 512 KiB": {append(linked("relative_path", "base.vhdx"), make([]byte, 512*kib)...), parent, image.ErrLimit},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if c.parent != nil {
				save(t, dir, "base.vhdx", c.parent)
			}
			path := save(t, dir, "child.vhdx", child(c.locator)(slices.Clone(good)))
			if _, err := imagetest.OpenPath(t, harness(), path); !errors.Is(err, c.want) {
				t.Errorf("error is %v, want %v", err, c.want)
			}
		})
	}
}

// TestDepth opens a chain of twenty images.
func TestDepth(t *testing.T) {
	t.Parallel()
	dir, b := t.TempDir(), good(t)
	path := save(t, dir, "0.vhdx", b)
	for i := range 20 {
		id := fmt.Sprintf("{000000%02x-0000-0000-0000-000000000034}", max(i, 0x12*(1-min(i, 1))))
		next := both(differencing(locator("relative_path", fmt.Sprintf("%d.vhdx", i), "parent_linkage", id)), inHeaders(putBytes(32, byte(i+1))))
		path = save(t, dir, fmt.Sprintf("%d.vhdx", i+1), next(slices.Clone(b)))
	}
	if _, err := imagetest.OpenPath(t, harness(), path); !errors.Is(err, image.ErrLimit) {
		t.Errorf("error is %v, want ErrLimit", err)
	}
}

func TestDamagedBitmaps(t *testing.T) {
	t.Parallel()
	h := harness()
	parent := baseBytes(t)
	h.Format.Open = func(f image.File, o image.OpenOptions) (image.Reader, error) {
		o.Refs = parents{parent}
		return vhdx.Open(f, o)
	}
	const bitmap = batAt + 8*ratio
	imagetest.Damages(t, h, child(linked("relative_path", "base.vhdx"))(good(t)), map[string]imagetest.Damage{
		"untouched":        damage(untouched, nil),
		"no bitmap":        damage(put64(bitmap, 0), image.ErrCorrupt),
		"state 7":          damage(put64(bitmap, at(6*mib, 7)), image.ErrCorrupt),
		"past the end":     damage(put64(bitmap, at(9*mib, 6)), image.ErrTruncated),
		"on a block":       damage(put64(bitmap, at(block0, 6)), image.ErrCorrupt),
		"on the BAT":       damage(put64(bitmap, at(batAt, 6)), image.ErrCorrupt),
		"BAT without room": damage(both(put64(itemsAt+8, 32*ratio*mib), put64(bitmap, 0)), image.ErrCorrupt),
	})
}

// parents opens one image, whatever is asked for.
type parents struct{ b []byte }

func (parents) File(ref image.Reference) (image.File, error) { return nil, image.Referencef("%v", ref) }

func (p parents) Image(image.Reference, string) (image.Reader, error) {
	return vhdx.Open(image.NewFile(bytes.NewReader(p.b), int64(len(p.b)), "base"), image.OpenOptions{})
}

// TestNoReferences opens a differencing disk without leave to open its parent: for its description alone that is no error.
func TestNoReferences(t *testing.T) {
	t.Parallel()
	b := child(linked("relative_path", `.\base.vhdx`))(good(t))
	if _, err := openBytes(t, b, image.OpenOptions{}); !errors.Is(err, image.ErrReference) {
		t.Errorf("error is %v, want ErrReference", err)
	}
	r, err := openBytes(t, b, image.OpenOptions{InfoOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	want := image.Reference{Kind: "parent", Name: `.\base.vhdx`, Format: "vhdx"}
	if info := r.Info(); len(info.References) != 1 || info.References[0] != want {
		t.Errorf("info is %+v", info)
	}
	if got := findings(t, b); len(got) != 0 {
		t.Errorf("findings are %q", got)
	}
}
