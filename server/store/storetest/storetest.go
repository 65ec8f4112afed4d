// Package storetest is the conformance suite for implementations of store.Store.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/store"
)

// Run runs the suite. open makes an empty store; reopen closes one and opens the same state again.
func Run(t *testing.T, open func(t *testing.T) store.Store, reopen func(t *testing.T, s store.Store) store.Store) {
	t.Helper()
	properties := map[string]func(*testing.T, store.Store){
		"GetPutDelete": testGetPutDelete, "Scan": testScan, "Rollback": testRollback, "PutIf": testPutIf,
		"RevisionsGrow": testRevisions, "Watch": testWatch, "WatchCoalesces": testWatchCoalesces, "WatchAfter": testWatchAfter,
		"Cancelled": testCancelled, "Migrate": testMigrate, "Concurrent": testConcurrent,
	}
	for name, property := range properties {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			property(t, open(t))
		})
	}
	t.Run("Durable", func(t *testing.T) {
		t.Parallel()
		testDurable(t, open(t), reopen)
	})
}

func put(t *testing.T, s store.Store, key, value string) uint64 {
	t.Helper()
	revision, err := s.Update(t.Context(), func(w store.Writer) error { return w.Put(key, []byte(value)) })
	if err != nil {
		t.Fatalf("put %s: %v", key, err)
	}
	return revision
}

func get(t *testing.T, s store.Store, key string) (value string, revision uint64, err error) {
	t.Helper()
	err = s.View(t.Context(), func(r store.Reader) error {
		e, err := r.Get(key)
		value, revision = string(e.Value), e.Revision
		return err
	})
	return value, revision, err
}

func testGetPutDelete(t *testing.T, s store.Store) {
	t.Helper()
	if _, _, err := get(t, s, "a"); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("get of a missing key: %v, want ErrNotFound", err)
	}
	want := put(t, s, "a", "1")
	value, revision, err := get(t, s, "a")
	if err != nil || value != "1" || revision != want {
		t.Fatalf("get: %q at %d, %v; want 1 at %d", value, revision, err, want)
	}
	if _, err := s.Update(t.Context(), func(w store.Writer) error { return w.Delete("a") }); err != nil {
		t.Fatal(err)
	}
	if _, _, err := get(t, s, "a"); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("get after delete: %v, want ErrNotFound", err)
	}
}

func testScan(t *testing.T, s store.Store) {
	t.Helper()
	for _, k := range []string{"b/2", "a/1", "b/1", "b/3", "c/1", "b"} {
		put(t, s, k, k)
	}
	for _, c := range []struct {
		prefix, after string
		want          []string
	}{
		{"b/", "", []string{"b/1", "b/2", "b/3"}},
		{"b/", "b/1", []string{"b/2", "b/3"}},
		{"b/", "b/3", nil},
		{"", "b/3", []string{"c/1"}},
		{"x", "", nil},
	} {
		var got []string
		err := s.View(t.Context(), func(r store.Reader) error {
			for e := range r.Scan(c.prefix, c.after) {
				got = append(got, e.Key)
			}
			return nil
		})
		if diff := cmp.Diff(c.want, got); err != nil || diff != "" {
			t.Errorf("scan %q after %q: %v\n%s", c.prefix, c.after, err, diff)
		}
	}
}

func testRollback(t *testing.T, s store.Store) {
	t.Helper()
	before := put(t, s, "a", "1")
	refused := errors.New("refused")
	_, err := s.Update(t.Context(), func(w store.Writer) error {
		if err := w.Put("a", []byte("2")); err != nil {
			return err
		}
		if e, err := w.Get("a"); err != nil || string(e.Value) != "2" {
			t.Errorf("read of an own write: %q, %v", e.Value, err)
		}
		return refused
	})
	if !errors.Is(err, refused) {
		t.Fatalf("update: %v, want its function's error", err)
	}
	if value, revision, err := get(t, s, "a"); err != nil || value != "1" || revision != before {
		t.Fatalf("after rollback: %q at %d, %v", value, revision, err)
	}
}

func testPutIf(t *testing.T, s store.Store) {
	t.Helper()
	putIf := func(revision uint64) error {
		_, err := s.Update(t.Context(), func(w store.Writer) error { return w.PutIf("a", []byte("x"), revision) })
		return err
	}
	if err := putIf(0); err != nil {
		t.Fatalf("first PutIf: %v", err)
	}
	_, revision, err := get(t, s, "a")
	if err != nil {
		t.Fatal(err)
	}
	for _, wrong := range []uint64{0, revision + 1} {
		if err := putIf(wrong); !errors.Is(err, store.ErrConflict) {
			t.Fatalf("PutIf(%d): %v, want ErrConflict", wrong, err)
		}
	}
	if err := putIf(revision); err != nil {
		t.Fatalf("PutIf with the right revision: %v", err)
	}
}

func testRevisions(t *testing.T, s store.Store) {
	t.Helper()
	first := put(t, s, "a", "1")
	nothing, err := s.Update(t.Context(), func(store.Writer) error { return nil })
	if err != nil || nothing != first {
		t.Fatalf("update without writes: revision %d, %v; want %d", nothing, err, first)
	}
	if second := put(t, s, "b", "1"); second <= first {
		t.Fatalf("revisions %d, %d do not grow", first, second)
	}
}

func testDurable(t *testing.T, s store.Store, reopen func(*testing.T, store.Store) store.Store) {
	t.Helper()
	first := put(t, s, "a", "1")
	s = reopen(t, s)
	if value, revision, err := get(t, s, "a"); err != nil || value != "1" || revision != first {
		t.Fatalf("after reopening: %q at %d, %v", value, revision, err)
	}
	if second := put(t, s, "a", "2"); second <= first {
		t.Fatalf("revision %d after reopening is not greater than %d", second, first)
	}
}

// next returns the next batch's keys and values.
func next(t *testing.T, ch <-chan []store.Change) []string {
	t.Helper()
	select {
	case batch, ok := <-ch:
		if !ok {
			t.Fatal("watch ended")
		}
		var got []string
		for _, c := range batch {
			got = append(got, fmt.Sprintf("%s=%s deleted=%v", c.Key, c.Value, c.Deleted))
		}
		return got
	case <-time.After(10 * time.Second):
		t.Fatal("no change arrived")
	}
	return nil
}

func testWatch(t *testing.T, s store.Store) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	put(t, s, "w/0", "before")
	ch, err := s.Watch(ctx, "w/", 0)
	if err != nil {
		t.Fatal(err)
	}
	put(t, s, "other", "1")
	put(t, s, "w/1", "1")
	if diff := cmp.Diff([]string{"w/1=1 deleted=false"}, next(t, ch)); diff != "" {
		t.Error(diff)
	}
	if _, err := s.Update(t.Context(), func(w store.Writer) error { return w.Delete("w/1") }); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"w/1= deleted=true"}, next(t, ch)); diff != "" {
		t.Error(diff)
	}
	cancel()
	for range ch {
		// A change may still be on its way; the channel must end.
	}
}

func testWatchCoalesces(t *testing.T, s store.Store) {
	t.Helper()
	ch, err := s.Watch(t.Context(), "w/", 0)
	if err != nil {
		t.Fatal(err)
	}
	const writes = 500
	for i := range writes {
		put(t, s, fmt.Sprintf("w/%d", i%2), fmt.Sprint(i))
	}
	var last []string
	batches := 0
	for len(last) == 0 || !slices.Contains(last, fmt.Sprintf("w/1=%d deleted=false", writes-1)) {
		last = next(t, ch)
		batches++
	}
	if batches > 5 {
		t.Errorf("a reader that was %d writes behind got %d batches", writes, batches)
	}
}

func testWatchAfter(t *testing.T, s store.Store) {
	t.Helper()
	first := put(t, s, "w/1", "1")
	put(t, s, "w/2", "2")
	ch, err := s.Watch(t.Context(), "w/", first)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"w/2=2 deleted=false"}, next(t, ch)); diff != "" {
		t.Error(diff)
	}
}

func testCancelled(t *testing.T, s store.Store) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.View(ctx, func(store.Reader) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("view with an ended context: %v", err)
	}
	if _, err := s.Update(ctx, func(store.Writer) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("update with an ended context: %v", err)
	}
}

func testMigrate(t *testing.T, s store.Store) {
	t.Helper()
	step := func(from, to string) store.Migration {
		return func(w store.Writer) error {
			e, err := w.Get("data")
			if err != nil || string(e.Value) != from {
				return fmt.Errorf("data is %q, %w; want %q", e.Value, err, from)
			}
			return w.Put("data", []byte(to))
		}
	}
	if err := store.Migrate(t.Context(), s, nil); err != nil {
		t.Fatal(err)
	}
	put(t, s, "data", "v0")
	if err := store.Migrate(t.Context(), s, []store.Migration{step("v0", "v1"), step("v1", "v2")}); err != nil {
		t.Fatal(err)
	}
	if value, _, err := get(t, s, "data"); err != nil || value != "v2" {
		t.Fatalf("after migration: %q, %v", value, err)
	}
	err := store.Migrate(t.Context(), s, nil)
	if !fault.Is(err, fault.FailedPrecondition) {
		t.Fatalf("state of a later release: %v, want FailedPrecondition", err)
	}
}
