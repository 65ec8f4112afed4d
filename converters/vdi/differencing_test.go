package vdi_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/image/imagetest"
	"github.com/hyperplane-project/hyperplane/converters/vdi"
)

// parentName is the name VirtualBox gives to the image that the harness writes: its content ID in braces.
const parentName = "{12000000-0000-0000-0000-000000000034}.vdi"

// child makes an image of differences: block 0 is the parent's, 1 its own, 4 zeros that hide the parent's.
func child(t *testing.T) []byte {
	t.Helper()
	d := &imagetest.Disk{Size: 5*block + 1024, Pieces: []imagetest.Piece{{Off: block, Len: block, Content: imagetest.Random}}}
	b := imagetest.Bytes(t, harness(), imagetest.Variant{}, d)
	copy(b[424:440], b[392:408]) // the parent's UUID
	return all(put32(76, 4), put32(392, 99), entry(4, 0xfffffffe))(b)
}

// write writes files into a folder and opens the first.
func write(t *testing.T, name string, content []byte, others map[string][]byte) (image.Reader, error) {
	t.Helper()
	dir := t.TempDir()
	others[name] = content
	for name, b := range others {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return imagetest.OpenPath(t, harness(), filepath.Join(dir, name))
}

func TestDifferencing(t *testing.T) {
	t.Parallel()
	r, err := write(t, "child.vdi", child(t), map[string][]byte{parentName: good(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	imagetest.Same(t, &imagetest.Disk{Size: 5*block + 1024, Pieces: []imagetest.Piece{
		{Off: 100, Len: block - 100, Content: imagetest.Text}, {Off: block, Len: block, Content: imagetest.Random},
	}}, r)
	info := r.Info()
	want := image.Reference{Kind: "parent", Name: parentName, Format: "vdi"}
	if len(info.References) != 1 || info.References[0] != want || info.Variant != "differencing" {
		t.Errorf("info is %+v, want a parent %+v", info, want)
	}
}

func TestDifferencingRefused(t *testing.T) {
	t.Parallel()
	self := child(t)
	copy(self[392:408], self[424:440]) // its own UUID is its parent's
	for name, c := range map[string]struct {
		child  []byte
		others map[string][]byte
	}{
		"no parent":          {child(t), map[string][]byte{}},
		"another's UUID":     {child(t), map[string][]byte{parentName: put32(392, 5)(good(t))}},
		"its own parent":     {self, map[string][]byte{parentName: self}},
		"parent of the kind": {child(t), map[string][]byte{parentName: []byte("no image")}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := write(t, "child.vdi", c.child, c.others); !errors.Is(err, image.ErrReference) && !errors.Is(err, image.ErrWrongFormat) {
				t.Errorf("error is %v, want a refusal", err)
			}
		})
	}
}

// TestDifferencingAlone opens an image of differences for its description, and checks it, with nothing else at hand.
func TestDifferencingAlone(t *testing.T) {
	t.Parallel()
	b := child(t)
	r, err := vdi.Open(image.NewFile(bytes.NewReader(b), int64(len(b)), "child"), image.OpenOptions{InfoOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	if refs := r.Info().References; len(refs) != 1 || refs[0].Name != parentName {
		t.Errorf("references are %+v", refs)
	}
	if err := r.(image.Checker).Check(t.Context(), func(f image.Finding) { t.Errorf("found: %s", f.Text) }); err != nil {
		t.Error(err)
	}
}
