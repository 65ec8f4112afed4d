package storetest

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/hyperplane-project/hyperplane/server/store"
)

// testConcurrent makes many updates at once, of which some fail: each stands or falls alone, and each has a revision of its own.
func testConcurrent(t *testing.T, s store.Store) {
	t.Helper()
	const updates = 200
	errNo := errors.New("no")
	revisions := make([]uint64, updates)
	var all sync.WaitGroup
	for i := range updates {
		all.Go(func() {
			revision, err := s.Update(t.Context(), func(w store.Writer) error {
				if err := w.Put(fmt.Sprintf("concurrent/%03d", i), []byte{byte(i)}); err != nil {
					return err
				}
				if i%3 == 0 {
					return errNo
				}
				return nil
			})
			if fails := i%3 == 0; fails != errors.Is(err, errNo) || (!fails && err != nil) {
				t.Errorf("update %d: %v", i, err)
			}
			revisions[i] = revision
		})
	}
	all.Wait()
	seen := make(map[uint64]int)
	for i, revision := range revisions {
		_, at, err := get(t, s, fmt.Sprintf("concurrent/%03d", i))
		if fails := i%3 == 0; fails {
			if !errors.Is(err, store.ErrNotFound) || revision != 0 {
				t.Errorf("update %d failed, but: %v, revision %d", i, err, revision)
			}
			continue
		}
		if err != nil || at != revision {
			t.Errorf("update %d: at revision %d, not %d: %v", i, at, revision, err)
		}
		if other, taken := seen[revision]; taken {
			t.Errorf("updates %d and %d have revision %d", i, other, revision)
		}
		seen[revision] = i
	}
}
