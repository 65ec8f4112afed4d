package qcow2

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/image/imagetest"
)

// TestCheckPasses counts the clusters of a damaged image in passes of several sizes: all must find the same.
func TestCheckPasses(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "disk.qcow2")
	imagetest.Qemu(t, "convert", "-f", "raw", "-O", "qcow2", "-c", "-o", "cluster_size=4k", imagetest.Raw(t, imagetest.RandomDisk(95, 2<<20)), path)
	imagetest.Qemu(t, "snapshot", "-c", "first", path)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	l1 := binary.BigEndian.Uint64(b[40:])
	l2 := binary.BigEndian.Uint64(b[l1:]) & offsetMask
	binary.BigEndian.PutUint64(b[l2:], 1<<40)  // past the end
	binary.BigEndian.PutUint64(b[l2+8:], 4096) // metadata
	want := checkIn(t, b, countedClusters)
	if len(want) < 3 {
		t.Fatalf("found only %v", want)
	}
	for _, perPass := range []int64{1, 2, 7, 100} {
		if got := checkIn(t, b, perPass); !slices.Equal(got, want) {
			t.Errorf("in passes of %d clusters %d findings, otherwise %d", perPass, len(got), len(want))
		}
	}
}

func checkIn(t *testing.T, b []byte, perPass int64) (found []string) {
	t.Helper()
	r, err := Open(image.NewFile(bytes.NewReader(b), int64(len(b)), "disk"), image.OpenOptions{InfoOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.(*reader).check(t.Context(), func(f image.Finding) { found = append(found, f.Text) }, perPass); err != nil {
		t.Fatal(err)
	}
	slices.Sort(found)
	return found
}
