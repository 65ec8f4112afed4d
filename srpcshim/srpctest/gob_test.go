package srpctest_test

import (
	"bufio"
	"bytes"
	"encoding/gob"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hyperplane-project/hyperplane/srpcshim/srpctest"
)

type inner struct {
	Names map[uint64]string
	Raw   []byte
}

type outer struct {
	Inner inner
	List  []inner
	Big   uint64
	Small int
	Real  float64
	Yes   bool
	Text  string
}

func sample() outer {
	return outer{
		inner{map[uint64]string{300: "x"}, []byte{1, 2}}, []inner{{Raw: []byte("y")}, {}}, 1 << 63, -5, 1.5, true, strings.Repeat("long", 100),
	}
}

func encoded(tb testing.TB, values ...any) []byte {
	tb.Helper()
	var b bytes.Buffer
	e := gob.NewEncoder(&b)
	for _, v := range values {
		if err := e.Encode(v); err != nil {
			tb.Fatal(err)
		}
	}
	return b.Bytes()
}

// TestGob reads what encoding/gob writes, and has it read what was changed.
func TestGob(t *testing.T) {
	t.Parallel()
	in := bufio.NewReader(bytes.NewReader(encoded(t, sample(), sample())))
	var g srpctest.Gob
	for range 2 { // definitions come with the first only
		v, err := g.Read(in)
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]any{
			"Inner": map[string]any{"Names": map[string]any{"300": "x"}, "Raw": []byte{1, 2}}, "List": []any{map[string]any{"Raw": []byte("y")}, map[string]any{}},
			"Big": uint64(1 << 63), "Small": int64(-5), "Real": 1.5, "Yes": true, "Text": strings.Repeat("long", 100),
		}
		if diff := cmp.Diff(want, v); diff != "" {
			t.Fatal(diff)
		}
	}
	first := srpctest.Gob{}
	v, err := first.Read(bufio.NewReader(bytes.NewReader(encoded(t, sample()))))
	if err != nil {
		t.Fatal(err)
	}
	v.(map[string]any)["Text"] = "short"
	raw, err := first.Rewrite(v)
	if err != nil {
		t.Fatal(err)
	}
	var got outer
	if err := gob.NewDecoder(bytes.NewReader(raw)).Decode(&got); err != nil {
		t.Fatal(err)
	}
	want := sample()
	want.Text = "short"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func FuzzGob(f *testing.F) {
	f.Add(encoded(f, sample()))
	f.Add(encoded(f, "text"))
	f.Add([]byte{2, 2, 0})
	f.Fuzz(func(_ *testing.T, raw []byte) {
		var g srpctest.Gob
		in := bufio.NewReader(bytes.NewReader(raw))
		for range 3 {
			v, err := g.Read(in)
			if err != nil {
				return
			}
			_, _ = g.Rewrite(v) // of what only its type understands there may be none
		}
	})
}
