package qcow2_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/image/imagetest"
	"github.com/hyperplane-project/hyperplane/converters/qcow2"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// snapshotted makes an image whose first state is base, in two snapshots, and whose current one is changed, which is larger.
func snapshotted(t *testing.T, options string) []byte {
	t.Helper()
	dir := t.TempDir()
	place(t, dir, "base.raw", base())
	place(t, dir, "changed.raw", changed())
	qemu(t, dir, "convert", "-f", "raw", "-O", "qcow2", "-o", options, "base.raw", "disk.qcow2")
	qemu(t, dir, "snapshot", "-c", "before upgrade", "disk.qcow2")
	qemu(t, dir, "snapshot", "-c", "1", "disk.qcow2") // the name of the second is the id of the first
	qemu(t, dir, "resize", "-f", "qcow2", "disk.qcow2", "4M")
	qemu(t, dir, "convert", "-n", "-f", "raw", "-O", "qcow2", "changed.raw", "disk.qcow2")
	b, err := os.ReadFile(filepath.Join(dir, "disk.qcow2"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func openBytes(b []byte, o image.OpenOptions) (image.Reader, error) {
	return qcow2.Open(image.NewFile(bytes.NewReader(b), int64(len(b)), "disk.qcow2"), o)
}

func TestSnapshots(t *testing.T) {
	t.Parallel()
	for _, options := range []string{"compat=1.1", "extended_l2=on", "cluster_size=512"} {
		b := snapshotted(t, options)
		for choice, want := range map[string]*imagetest.Disk{"": changed(), "before upgrade": base(), "1": base(), "2": base()} {
			r, err := openBytes(b, image.OpenOptions{Snapshot: choice})
			if err != nil {
				t.Fatal(err)
			}
			imagetest.Same(t, want, r)
			list := r.Info().Snapshots
			if len(list) != 2 || list[0].ID != "1" || list[0].Name != "before upgrade" || list[0].Size != 3<<20 || list[0].Time == 0 || list[1].ID != "2" {
				t.Errorf("snapshots are %+v", list)
			}
			if warned := len(r.Info().Warnings) > 0; warned != (choice == "") {
				t.Errorf("state %q: warnings are %q", choice, r.Info().Warnings)
			}
			if err := r.(image.Checker).Check(t.Context(), func(f image.Finding) { t.Errorf("found at %d: %s", f.Offset, f.Text) }); err != nil {
				t.Error(err)
			}
		}
	}
	b := snapshotted(t, "compat=1.1")
	if _, err := openBytes(b, image.OpenOptions{Snapshot: "nightly"}); !fault.Is(err, fault.NotFound) || !strings.Contains(err.Error(), "before upgrade") {
		t.Errorf("a snapshot that does not exist: %v, want NotFound with the names of those that do", err)
	}
	if _, err := openBytes(good(t, ""), image.OpenOptions{Snapshot: "nightly"}); !fault.Is(err, fault.NotFound) {
		t.Errorf("a snapshot of an image that has none: %v, want NotFound", err)
	}
}

func TestDamagedSnapshots(t *testing.T) {
	t.Parallel()
	good := snapshotted(t, "compat=1.1")
	table := int(binary.BigEndian.Uint64(good[64:]))
	for name, c := range map[string]struct {
		patch        func([]byte) []byte
		want, chosen error // of the current state, and of the first snapshot
	}{
		"untouched":             {both(), nil, nil},
		"table at no cluster":   {put64(64, uint64(table)+8), image.ErrCorrupt, image.ErrCorrupt},
		"table past the end":    {put64(64, 1<<40), image.ErrTruncated, image.ErrTruncated},
		"table at 2^64-65536":   {put64(64, 1<<64-cluster), image.ErrCorrupt, image.ErrCorrupt},
		"table at the end":      {func(b []byte) []byte { return put64(64, uint64(len(b)/cluster*cluster))(b) }, image.ErrTruncated, image.ErrTruncated},
		"65537 snapshots":       {put32(60, 65537), image.ErrLimit, image.ErrLimit},
		"extra data of 2^32-1":  {put32(table+36, 1<<32-1), image.ErrLimit, image.ErrLimit},
		"no extra data":         {both(put32(table+36, 0), put32(60, 1)), nil, nil}, // the name then is what was the extra data
		"size 2^64-1":           {put64(table+48, 1<<64-1), image.ErrLimit, image.ErrLimit},
		"size above the L1":     {put64(table+48, 1<<40), nil, image.ErrCorrupt},
		"L1 of 2^32-1 entries":  {put32(table+8, 1<<32-1), nil, image.ErrLimit},
		"L1 of no entries":      {put32(table+8, 0), nil, image.ErrCorrupt},
		"L1 at no cluster":      {put64(table, 512), nil, image.ErrCorrupt},
		"L1 past the end":       {put64(table, 1<<40), nil, image.ErrTruncated},
		"L1 at 2^64-65536":      {put64(table, 1<<64-cluster), nil, image.ErrCorrupt},
		"more than there are":   {put32(60, 60_000), image.ErrLimit, image.ErrLimit},
		"names of 65535 bytes":  {put32(table+12, 1<<32-1), image.ErrLimit, image.ErrLimit},
		"snapshot is the table": {put64(table, uint64(table)), nil, image.ErrTruncated},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := c.patch(bytes.Clone(good))
			if err := openAndRead(b, ""); !errors.Is(err, c.want) {
				t.Errorf("current state: error is %v, want %v", err, c.want)
			}
			if err := openAndRead(b, "1"); !errors.Is(err, c.chosen) && (name != "no extra data" || !fault.Is(err, fault.NotFound)) {
				t.Errorf("snapshot: error is %v, want %v", err, c.chosen)
			}
		})
	}
}

func openAndRead(b []byte, snapshot string) error {
	r, err := openBytes(b, image.OpenOptions{Snapshot: snapshot})
	if err != nil {
		return err
	}
	_, err = r.ReadAt(make([]byte, 1<<20), 0)
	return errors.Join(err, r.Close())
}

// TestManySnapshots opens an image whose snapshot table is larger than what opening may read.
func TestManySnapshots(t *testing.T) {
	t.Parallel()
	const count, entrySize = 20_000, 40 + 16 + 1 + 31
	entry := both(put64(0, l1At), put32(8, 1), put32(12, 1<<16|31), put32(36, 16), put64(48, 10*cluster), func(b []byte) []byte {
		copy(b[56:], "7many of the same name")
		return b
	})(make([]byte, entrySize))
	b := good(t, "")
	b = append(b, make([]byte, -len(b)&(cluster-1))...)
	b = both(put32(60, count), put64(64, uint64(len(b))))(b)
	b = append(b, bytes.Repeat(entry, count)...)
	m := &meteredFile{File: image.NewFile(bytes.NewReader(b), int64(len(b)), "many")}
	r, err := qcow2.Open(m, image.OpenOptions{Snapshot: "7"})
	if err != nil {
		t.Fatal(err)
	}
	if m.opening > image.MaxOpenBytes {
		t.Errorf("opening reads %d bytes", m.opening)
	}
	imagetest.Same(t, goodDisk(), r)
	if n := len(r.Info().Snapshots); n < 1000 || n >= count || len(r.Info().Warnings) != 1 {
		t.Errorf("%d snapshots are listed, warnings are %q", n, r.Info().Warnings)
	}
}

// meteredFile counts what is read.
type meteredFile struct {
	image.File
	opening int
}

func (m *meteredFile) ReadAt(p []byte, off int64) (int, error) {
	m.opening += len(p)
	return m.File.ReadAt(p, off)
}
