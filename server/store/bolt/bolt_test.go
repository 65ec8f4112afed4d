package bolt_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/store"
	"github.com/hyperplane-project/hyperplane/server/store/bolt"
	"github.com/hyperplane-project/hyperplane/server/store/storetest"
)

func open(t *testing.T, path string) *bolt.Store {
	t.Helper()
	s, err := bolt.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() }) // closing twice is fine
	return s
}

func TestConformance(t *testing.T) {
	t.Parallel()
	paths := make(chan string, 100)
	storetest.Run(t,
		func(t *testing.T) store.Store {
			t.Helper()
			path := filepath.Join(t.TempDir(), "state.db")
			if strings.Contains(t.Name(), "Durable") {
				paths <- path
			}
			return open(t, path)
		},
		func(t *testing.T, s store.Store) store.Store {
			t.Helper()
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			return open(t, <-paths)
		})
}

func TestSecondProcessIsRefused(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state.db")
	open(t, path)
	_, err := bolt.Open(path)
	if !fault.Is(err, fault.FailedPrecondition) || !strings.Contains(err.Error(), path) {
		t.Fatalf("second open: %v, want FailedPrecondition that names %s", err, path)
	}
}
