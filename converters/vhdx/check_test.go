package vhdx_test

import (
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/vhdx"
)

// meter counts what is read.
type meter struct {
	io.ReaderAt
	n, size int64
}

func (m *meter) ReadAt(p []byte, off int64) (int, error) {
	m.n += int64(len(p))
	return m.ReaderAt.ReadAt(p, off)
}

func openFile(t *testing.T, m *meter, o image.OpenOptions) (image.Reader, error) {
	t.Helper()
	return vhdx.Open(image.NewFile(m, m.size, "image"), o)
}

// findings checks an image that was opened for its description alone.
func findings(t *testing.T, b []byte) (texts []string) {
	t.Helper()
	r, err := openBytes(t, b, image.OpenOptions{InfoOnly: true})
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
	good := good(t)
	for name, c := range map[string]struct {
		patch func([]byte) []byte
		want  []string
	}{
		"nothing":            {untouched, nil},
		"first header":       {putBytes(header1+100, 1), []string{"header 1 is damaged"}},
		"second header":      {putBytes(header2+100, 1), []string{"header 2 is damaged"}},
		"first region table": {putBytes(regions1+100, 1), []string{"region table 1 is damaged"}},
		"region tables":      {both(putBytes(regions2+100, 1), sealAll), []string{"region tables differ"}},
		"overlap":            {put64(batAt+16, at(block0, 6)), []string{"overlaps", "leak: vhdx: 1 MiB"}},
		"on the log":         {put64(batAt, at(logAt, 6)), []string{"overlaps", "leak: vhdx: 1 MiB"}},
		"outside":            {put64(batAt, at(9*mib, 6)), []string{"reaches past", "leak"}},
		"offset 0":           {put64(batAt, at(0, 6)), []string{"no block lies", "leak"}},
		"state 5":            {put64(batAt, at(block0, 5)), []string{"state 5", "leak"}},
		"state 7":            {put64(batAt, at(block0, 7)), []string{"state 7", "leak"}},
		"leak":               {func(b []byte) []byte { return append(b, make([]byte, 2*mib)...) }, []string{"leak: vhdx: 2 MiB"}},
		"bitmap": {
			both(child(linked("relative_path", "x")), put64(batAt+8*ratio, at(6*mib, 2))),
			[]string{"needs a sector bitmap", "state 2", "leak"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := findings(t, c.patch(slices.Clone(good)))
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
