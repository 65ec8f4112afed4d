package vdi_test

import (
	"bytes"
	"slices"
	"testing"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/vdi"
)

func TestCheck(t *testing.T) {
	t.Parallel()
	const leak, corruption = image.Leak, image.Corruption
	for name, c := range map[string]struct {
		damage patch
		want   []image.Severity
	}{
		"good":                      {all(), nil},
		"count wrong":               {put32(388, 7), []image.Severity{corruption}},
		"block outside":             {entry(0, 9), []image.Severity{corruption, leak}},
		"block named twice":         {entry(0, 1), []image.Severity{corruption, leak}},
		"two blocks leaked in one":  {all(entry(0, 0xffffffff), entry(1, 0xfffffffe), put32(388, 1)), []image.Severity{leak}},
		"two blocks leaked apart":   {all(entry(0, 0xffffffff), entry(4, 0xfffffffe), put32(388, 1)), []image.Severity{leak, leak}},
		"half a block at the end":   {func(b []byte) []byte { return append(b, make([]byte, block/2)...) }, nil},
		"a whole block at the end":  {func(b []byte) []byte { return append(b, make([]byte, block)...) }, []image.Severity{leak}},
		"content past the file end": {cut(dataAt + 3*block - 1), []image.Severity{corruption}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := c.damage(good(t))
			r, err := vdi.Open(image.NewFile(bytes.NewReader(b), int64(len(b)), name), image.OpenOptions{InfoOnly: true})
			if err != nil {
				t.Fatal(err)
			}
			var got []image.Severity
			err = r.(image.Checker).Check(t.Context(), func(f image.Finding) { got = append(got, f.Severity); t.Log(f.Offset, f.Text) })
			if slices.Sort(got); err != nil || !slices.Equal(got, sorted(c.want)) {
				t.Errorf("found %v, want %v (%v)", got, c.want, err)
			}
		})
	}
}

func sorted(s []image.Severity) []image.Severity {
	s = slices.Clone(s)
	slices.Sort(s)
	return s
}
