package bitset_test

import (
	"testing"

	"github.com/hyperplane-project/hyperplane/converters/internal/bitset"
)

func TestAdd(t *testing.T) {
	t.Parallel()
	var s bitset.Set
	numbers := []int64{0, 1, 63, 64, 32767, 32768, 1 << 40}
	for _, n := range numbers {
		if added, full := s.Add(n); !added || full {
			t.Errorf("adding %d: added %v, full %v", n, added, full)
		}
	}
	for _, n := range numbers {
		if added, full := s.Add(n); added || full {
			t.Errorf("adding %d again: added %v, full %v", n, added, full)
		}
	}
}

func TestBound(t *testing.T) {
	t.Parallel()
	var s bitset.Set
	for i := range int64(1 << 20) {
		if _, full := s.Add(i << 20); full {
			if i < 1000 {
				t.Errorf("full after %d pages", i)
			}
			return
		}
	}
	t.Error("a set of scattered numbers never fills")
}
