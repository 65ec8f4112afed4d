package vsphere

import (
	"cmp"
	"slices"
	"strings"
)

// similar returns up to limit of the names that come closest to want, the closest first: those that contain it or are contained in it, and
// those that differ by few letters.
func similar(want string, names []string, limit int) []string {
	type scored struct {
		name  string
		score int
	}
	want = strings.ToLower(want)
	var near []scored
	for _, n := range names {
		if s, ok := closeness(want, strings.ToLower(n)); ok {
			near = append(near, scored{n, s})
		}
	}
	slices.SortFunc(near, func(a, b scored) int {
		return cmp.Or(cmp.Compare(a.score, b.score), cmp.Compare(a.name, b.name))
	})
	near = slices.Compact(near)
	out := make([]string, 0, limit)
	for _, s := range near[:min(limit, len(near))] {
		out = append(out, s.name)
	}
	return out
}

func closeness(want, name string) (score int, ok bool) {
	if want == "" || name == "" {
		return 0, false
	}
	d := editDistance(want, name)
	if strings.Contains(name, want) || strings.Contains(want, name) {
		return min(d, 2), true
	}
	return d, d <= max(2, len(want)/3)
}

// editDistance is Levenshtein's, over bytes.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
