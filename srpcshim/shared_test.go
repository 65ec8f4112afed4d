package srpcshim

import (
	"sync"
	"sync/atomic"
	"testing"
)

// TestSharedOnce has many calls say the same at the same time.
func TestSharedOnce(t *testing.T) {
	t.Parallel()
	var s shared
	var built atomic.Int32
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			m, err := s.get(sharedKey{gobEncoding, "update 1"}, func() (any, []byte, error) {
				built.Add(1)
				return 0, []byte("bytes"), nil
			})
			if err != nil || string(m.value) != "bytes" {
				t.Errorf("%q, %v", m.value, err)
			}
		})
	}
	all.Wait()
	if built.Load() != 1 {
		t.Errorf("made %d times", built.Load())
	}
	if _, err := s.get(sharedKey{jsonEncoding, "update 1"}, func() (any, []byte, error) { return 0, []byte("{}"), nil }); err != nil || len(s.said) != 2 {
		t.Errorf("another codec: %d kept, %v", len(s.said), err)
	}
}

// TestSharedIsBounded says more than is kept.
func TestSharedIsBounded(t *testing.T) {
	t.Parallel()
	say := func(s *shared, n, size int) {
		for i := range n {
			if _, err := s.get(sharedKey{gobEncoding, i}, func() (any, []byte, error) { return 0, make([]byte, size), nil }); err != nil {
				t.Fatal(err)
			}
		}
	}
	var many, large shared
	say(&many, 3*maxShared, 1)
	say(&large, 5, maxSharedBytes/2)
	if len(many.said) != maxShared || len(large.said) != 2 {
		t.Errorf("%d small and %d large ones are kept, want %d and 2", len(many.said), len(large.said), maxShared)
	}
}
