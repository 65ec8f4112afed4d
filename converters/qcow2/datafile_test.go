package qcow2_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/image/imagetest"
	"github.com/hyperplane-project/hyperplane/converters/qcow2"
)

// external makes an image with a data file in a folder and returns its path.
func external(t *testing.T, options string) string {
	t.Helper()
	dir := t.TempDir()
	place(t, dir, "disk.raw", imagetest.RandomDisk(71, 3_000_320))
	qemu(t, dir, "convert", "-f", "raw", "-O", "qcow2", "-o", "data_file=disk.data"+options, "disk.raw", "disk.qcow2")
	return filepath.Join(dir, "disk.qcow2")
}

func TestDataFile(t *testing.T) {
	t.Parallel()
	for name, options := range map[string]string{
		"tables": "", "raw": ",data_file_raw=on", "extended L2": ",extended_l2=on", "4 KiB clusters": ",cluster_size=4k",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := external(t, options)
			r := mustOpen(t, path, image.OpenOptions{})
			imagetest.Same(t, imagetest.RandomDisk(71, 3_000_320), r)
			want := image.Reference{Kind: "data-file", Name: "disk.data"}
			if got := r.Info().References; len(got) != 1 || got[0] != want {
				t.Errorf("references are %+v, want %+v", got, want)
			}
			err := r.(image.Checker).Check(t.Context(), func(f image.Finding) { t.Errorf("found at %d: %s", f.Offset, f.Text) })
			if err != nil {
				t.Error(err)
			}
		})
	}
}

func TestDataFileRefused(t *testing.T) {
	t.Parallel()
	rename := func(name string) func([]byte) []byte {
		return func(b []byte) []byte {
			i := bytes.Index(b, []byte("disk.data"))
			copy(b[i:], name)
			return b
		}
	}
	firstEntry := func(value uint64) func([]byte) []byte {
		return func(b []byte) []byte { return put64(4*cluster, value)(b) }
	}
	for name, c := range map[string]struct {
		patch func([]byte) []byte
		want  error
	}{
		"untouched":           {both(), nil},
		"missing":             {rename("disk.dat0"), image.ErrReference},
		"absolute":            {rename("/etc/host"), image.ErrReference},
		"outside":             {rename("../passwd"), image.ErrReference},
		"itself":              {rename("d.qcow2\x00\x00"), image.ErrReference},
		"no feature bit":      {put64(72, 0), image.ErrReference},
		"compressed":          {firstEntry(1 << 62), image.ErrCorrupt},
		"past the end":        {firstEntry(1<<63 | 1<<40), image.ErrTruncated},
		"first cluster again": {firstEntry(1 << 63), nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := external(t, "")
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, c.patch(b), 0o600); err != nil {
				t.Fatal(err)
			}
			r, err := openPath(t, path, image.OpenOptions{})
			if err == nil {
				_, err = r.ReadAt(make([]byte, 1<<20), 0)
			}
			if !errors.Is(err, c.want) {
				t.Errorf("error is %v, want %v", err, c.want)
			}
			if _, err := qcow2.Open(image.NewFile(bytes.NewReader(b), int64(len(b)), "alone"), image.OpenOptions{}); !errors.Is(err, image.ErrReference) {
				t.Errorf("without references the error is %v, want ErrReference", err)
			}
		})
	}
}
