package page_test

import (
	"slices"
	"testing"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/page"
)

func TestPagesCoverTheList(t *testing.T) {
	t.Parallel()
	all := []string{"a", "b", "c", "d", "e"}
	self := func(s string) string { return s }
	for size := range uint32(7) {
		var got []string
		for token := ""; ; {
			p, next, err := page.Cut(all, size, token, self)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, p...)
			if token = next; token == "" {
				break
			}
		}
		if !slices.Equal(got, all) {
			t.Errorf("pages of %d: %v", size, got)
		}
	}
	if _, _, err := page.Cut(all, 1, "!", self); !fault.Is(err, fault.InvalidArgument) {
		t.Errorf("bad token: %v", err)
	}
	_, token, _ := page.Cut(all, 2, "", self)
	if _, _, err := page.Cut([]string{"x"}, 2, token, self); !fault.Is(err, fault.Aborted) {
		t.Errorf("token of an element that has gone: %v", err)
	}
}
