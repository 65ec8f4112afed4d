package vhd_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/hyperplane-project/hyperplane/converters/image"
)

// findings checks an image that was opened for its description alone.
func findings(t *testing.T, b []byte) (texts []string) {
	t.Helper()
	r, err := openBytes(t, b, image.OpenOptions{InfoOnly: true, Force: true})
	if err != nil {
		t.Fatal(err)
	}
	c, ok := r.(image.Checker)
	if !ok {
		t.Fatalf("%T is no Checker", r)
	}
	if err := c.Check(t.Context(), func(f image.Finding) { texts = append(texts, f.Severity.String()+": "+f.Text) }); err != nil {
		t.Fatal(err)
	}
	return texts
}

func TestCheck(t *testing.T) {
	t.Parallel()
	const first = (tableAt + sector) / sector
	for name, c := range map[string]struct {
		patch func([]byte) []byte
		want  []string
	}{
		"nothing":        {untouched, nil},
		"footer missing": {fromEnd(wipe), []string{"end of the file is missing"}},
		"footer damaged": {fromEnd(put32(64, 1)), []string{"end of the file is wrong"}},
		"copy missing":   {wipe, []string{"beginning of the file is missing"}},
		"copies differ":  {func(b []byte) []byte { b[68] = 7; sealFooter(b); return b }, []string{"differ"}},
		"header damaged": {put32(headAt+36, 1), []string{"header is wrong"}},
		"overlap":        {put32(tableAt+4, first+3), []string{"overlaps", "leak"}},
		"on the table":   {put32(tableAt, first-1), []string{"lies on the block allocation table", "leak"}},
		"outside":        {put32(tableAt+4, first+1000), []string{"reaches past", "leak"}},
		"leak":           {put32(tableAt+4, unused), []string{"leak: vhd: 4608 bytes"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := findings(t, c.patch(base().bytes()))
			for _, want := range c.want {
				if !slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, want) }) {
					t.Errorf("findings are %q, want %q", got, want)
				}
			}
			if c.want == nil && len(got) > 0 {
				t.Errorf("findings are %q, want none", got)
			}
		})
	}
}

// TestCheckFixed checks a fixed disk with a damaged footer.
func TestCheckFixed(t *testing.T) {
	t.Parallel()
	b := append(make([]byte, 4096), disk{size: 4096, kind: 2}.footer()...)
	if got := findings(t, b); len(got) != 0 {
		t.Errorf("findings are %q, want none", got)
	}
	b[len(b)-1] = 1
	if got := findings(t, b); len(got) != 1 {
		t.Errorf("findings are %q, want one", got)
	}
}
