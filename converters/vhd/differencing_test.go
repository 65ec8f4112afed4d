package vhd_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/image/imagetest"
	"github.com/hyperplane-project/hyperplane/converters/vhd"
)

// base is a dynamic disk of four blocks, of which the first two hold A and B.
func base() disk {
	return disk{size: 4 * block, kind: 3, id: 1, blocks: []stored{{0, 0xff, 'A'}, {1, 0xff, 'B'}}}
}

// child is a differencing disk over base: half of block 0, the first and the last sector of block 2, and nothing of block 1.
func child() disk {
	return disk{size: 4 * block, kind: 4, id: 2, parent: 1, relative: `.\base.vhd`, blocks: []stored{{2, 0x81, 'c'}, {0, 0x0f, 'a'}}}
}

// content returns the disk as one letter for each sector, where . is zeros.
func content(t *testing.T, r image.Reader) string {
	t.Helper()
	var s strings.Builder
	b := make([]byte, sector)
	for off := int64(0); off < r.Info().VirtualSize; off += sector {
		if _, err := r.ReadAt(b, off); err != nil {
			t.Fatal(err)
		}
		if b[0] == 0 {
			b[0] = '.'
		}
		s.WriteByte(b[0])
	}
	return s.String()
}

const childContent = "AAAAaaaa" + "BBBBBBBB" + "c......c" + "........"

func TestDifferencing(t *testing.T) {
	t.Parallel()
	// What names the parent, in the order of preference; folders do not count.
	for name, d := range map[string]disk{
		"relative":          {relative: `.\base.vhd`, absolute: `C:\x\other.vhd`, unicode: "other.vhd"},
		"relative, folders": {relative: `..\..\a\base.vhd`},
		"absolute":          {absolute: `C:\VMs\base.vhd`, unicode: "other.vhd"},
		"absolute, drive":   {absolute: `C:base.vhd`},
		"unicode":           {unicode: "base.vhd"},
		"unicode, path":     {unicode: `C:\VMs\base.vhd`},
		"unicode, Unix":     {unicode: "/etc/../base.vhd"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, dir := child(), t.TempDir()
			c.relative, c.absolute, c.unicode = d.relative, d.absolute, d.unicode
			save(t, dir, "base.vhd", base().bytes())
			r := imagetest.Open(t, harness(), save(t, dir, "child.vhd", c.bytes()))
			if got := content(t, r); got != childContent {
				t.Errorf("content is\n%s, want\n%s", got, childContent)
			}
			if info := r.Info(); info.Variant != "differencing" || len(info.References) != 1 || info.References[0].Format != "vhd" {
				t.Errorf("info is %+v", info)
			}
		})
	}
}

func TestChain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	save(t, dir, "base.vhd", base().bytes())
	save(t, dir, "child.vhd", child().bytes())
	top := disk{size: 4*block + 1024, kind: 4, id: 3, parent: 2, relative: `.\child.vhd`, blocks: []stored{{0, 0x18, 'x'}, {4, 0x40, 'y'}}}
	r := imagetest.Open(t, harness(), save(t, dir, "top.vhd", top.bytes()))
	want := "AAAxxaaa" + childContent[8:] + ".y"
	if got := content(t, r); got != want {
		t.Errorf("content is\n%s, want\n%s", got, want)
	}
}

func TestRefusedParents(t *testing.T) {
	t.Parallel()
	fixedParent := func(t *testing.T) []byte {
		t.Helper()
		d := &imagetest.Disk{Size: 4 * block}
		return imagetest.Bytes(t, harness(), imagetest.Variant{Options: image.CreateOptions{Variant: "fixed"}}, d)
	}
	for name, files := range map[string]func(t *testing.T) map[string][]byte{
		"missing": func(*testing.T) map[string][]byte { return nil },
		"another id": func(*testing.T) map[string][]byte {
			d := base()
			d.id = 9
			return map[string][]byte{"base.vhd": d.bytes()}
		},
		"fixed with another id": func(t *testing.T) map[string][]byte { t.Helper(); return map[string][]byte{"base.vhd": fixedParent(t)} },
		"loop of two": func(*testing.T) map[string][]byte {
			d := child()
			d.id, d.parent, d.relative = 1, 2, "child.vhd"
			return map[string][]byte{"base.vhd": d.bytes()}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			for name, b := range files(t) {
				save(t, dir, name, b)
			}
			if _, err := imagetest.OpenPath(t, harness(), save(t, dir, "child.vhd", child().bytes())); !errors.Is(err, image.ErrReference) {
				t.Errorf("error is %v, want ErrReference", err)
			}
		})
	}
}

// TestDepth opens a chain of twenty images.
func TestDepth(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	save(t, dir, "0.vhd", base().bytes())
	path := ""
	for i := range 20 {
		d := child()
		d.id, d.parent, d.relative = byte(i+2), byte(i+1), fmt.Sprintf("%d.vhd", i)
		path = save(t, dir, fmt.Sprintf("%d.vhd", i+1), d.bytes())
	}
	if _, err := imagetest.OpenPath(t, harness(), path); !errors.Is(err, image.ErrLimit) {
		t.Errorf("error is %v, want ErrLimit", err)
	}
}

// TestNoReferences opens a differencing disk without leave to open its parent: for its description alone that is no error.
func TestNoReferences(t *testing.T) {
	t.Parallel()
	b := child().bytes()
	f := image.NewFile(bytes.NewReader(b), int64(len(b)), "child.vhd")
	if _, err := vhd.Open(f, image.OpenOptions{}); !errors.Is(err, image.ErrReference) {
		t.Errorf("error is %v, want ErrReference", err)
	}
	r, err := vhd.Open(f, image.OpenOptions{InfoOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	want := image.Reference{Kind: "parent", Name: `.\base.vhd`, Format: "vhd"}
	if info := r.Info(); len(info.References) != 1 || info.References[0] != want || info.VirtualSize != 4*block {
		t.Errorf("info is %+v", info)
	}
	if got := findings(t, b); len(got) != 0 {
		t.Errorf("findings are %q", got)
	}
}
