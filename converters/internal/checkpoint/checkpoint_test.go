package checkpoint_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/internal/checkpoint"
	"github.com/hyperplane-project/hyperplane/converters/internal/engine"
)

// output counts how often it is made to last.
type output struct{ syncs int }

func (o *output) Sync() error { o.syncs++; return nil }

func records() []engine.Record {
	return []engine.Record{
		{End: 1 << 20, Placed: []image.Run{{Off: 0, Len: 65536}, {Off: 1 << 19, Len: 4096}}, Hash: []byte{1, 2, 3}},
		{End: 2 << 20, Pieces: []engine.PieceRecord{{Off: 1 << 20, Size: 300}}},
		{End: 3 << 20, Zeros: []image.Run{{Off: 2 << 20, Len: 65536}}},
	}
}

// write makes a checkpoint with all records.
func write(t *testing.T, path string) *output {
	t.Helper()
	out := &output{}
	j, err := checkpoint.Open(path, []byte("key"), out, func() time.Time { return time.Unix(0, 0) })
	if err != nil {
		t.Fatal(err)
	}
	if !j.Fresh() {
		t.Error("a checkpoint that was just made is not fresh")
	}
	for _, r := range records() {
		if err := j.Append(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(j.Flush(), j.Close()); err != nil {
		t.Fatal(err)
	}
	return out
}

func read(t *testing.T, path string) []engine.Record {
	t.Helper()
	j, err := checkpoint.Open(path, []byte("key"), &output{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var got []engine.Record
	for r, err := range j.Records() {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, r)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	return got
}

// TestRecords reads back all records but the newest, which is then gone, and ignores what is torn.
func TestRecords(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "checkpoint")
	if out := write(t, path); out.syncs != 1 {
		t.Errorf("the output was synced %d times before the records, want once", out.syncs)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range [][]engine.Record{records()[:2], records()[:1], nil} {
		if diff := cmp.Diff(want, read(t, path), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("records (-want +got):\n%s", diff)
		}
	}
	whole[len(whole)-1] ^= 1                                 // the last record is damaged: the one before it is the newest
	if err := os.WriteFile(path, whole, 0o600); err != nil { //nolint:gosec // the test's own file
		t.Fatal(err)
	}
	if diff := cmp.Diff(records()[:1], read(t, path), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("records of a torn file (-want +got):\n%s", diff)
	}
}

// TestOther refuses checkpoints of other copies and files that are none.
func TestOther(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path, other := filepath.Join(dir, "checkpoint"), filepath.Join(dir, "other")
	write(t, path)
	if err := os.WriteFile(other, []byte("something else"), 0o600); err != nil {
		t.Fatal(err)
	}
	for file, key := range map[string]string{path: "other key", other: "key"} {
		if _, err := checkpoint.Open(file, []byte(key), &output{}, nil); !errors.Is(err, checkpoint.ErrOther) {
			t.Errorf("%s: %v", file, err)
		}
	}
}

// FuzzRecords reads damaged checkpoints.
func FuzzRecords(f *testing.F) {
	f.Add([]byte("hyperplane checkpoint 1\n\x03\x00\x00\x00\x00\x00\x00\x00key"))
	f.Fuzz(func(t *testing.T, b []byte) {
		path := filepath.Join(t.TempDir(), "checkpoint")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		j, err := checkpoint.Open(path, []byte("key"), &output{}, nil)
		if err != nil {
			return
		}
		for _, err := range j.Records() {
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	})
}
