package converters_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/hyperplane-project/hyperplane/converters"
	"github.com/hyperplane-project/hyperplane/converters/all"
	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/image/imagetest"
	"github.com/hyperplane-project/hyperplane/converters/raw"
)

// writeImage converts src to the file at path.
func writeImage(t *testing.T, src image.Reader, path string, target converters.Target, o converters.Options) {
	t.Helper()
	err := converters.WriteFiles(t.Context(), path, converters.WriteOptions{}, func(ctx context.Context, files *converters.Files) error {
		target.Out, target.Sibling, target.Name = files.Main(), files.Sibling, filepath.Base(path)
		_, err := all.Formats().Convert(ctx, converters.Source{Reader: src}, target, o)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// openFolder opens an image that may have other files in its folder.
func openFolder(t *testing.T, path string) image.Reader {
	t.Helper()
	r, err := all.Formats().Open(t.Context(), path, converters.OpenOptions{SameFolder: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// TestDelta writes images that hold only the differences to another one, plain and compressed.
func TestDelta(t *testing.T) {
	t.Parallel()
	base := imagetest.RandomDisk(1, 5_000_192)
	changed := &imagetest.Disk{Size: 6_000_128, Pieces: append([]imagetest.Piece{{Off: 0, Len: 100_000, Content: imagetest.Text}}, base.Pieces[2:]...)}
	for _, compression := range []string{"", "zlib", "zstd"} {
		t.Run("compression "+compression, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			basePath, path := filepath.Join(dir, "base.qcow2"), filepath.Join(dir, "delta.qcow2")
			writeImage(t, base, basePath, converters.Target{Format: "qcow2"}, converters.Options{})
			backing := &converters.Backing{Name: "base.qcow2", Format: "qcow2", Reader: openFolder(t, basePath)}
			writeImage(t, changed, path, converters.Target{Format: "qcow2", Compression: compression, Backing: backing}, converters.Options{SHA256: true})
			imagetest.Same(t, changed, openFolder(t, path))
			imagetest.Qemu(t, "check", path)
			imagetest.Qemu(t, "compare", "-f", "raw", imagetest.Raw(t, changed), path)
			if st, err := os.Stat(path); err != nil || st.Size() > 2<<20 {
				t.Errorf("the delta of about a MiB has %d bytes: %v", st.Size(), err)
			}
			if _, err := all.Formats().Open(t.Context(), path, converters.OpenOptions{}); !errors.Is(err, image.ErrReference) {
				t.Errorf("without permission the backing file is opened: %v", err)
			}
		})
	}
}

// TestDeltaRefused asks for differences in formats that have none.
func TestDeltaRefused(t *testing.T) {
	t.Parallel()
	disk := imagetest.RandomDisk(2, 1_000_000)
	for _, format := range []string{"raw", "vmdk"} {
		f, err := os.Create(filepath.Join(t.TempDir(), "x"))
		if err != nil {
			t.Fatal(err)
		}
		target := converters.Target{Format: format, Out: f, Backing: &converters.Backing{Name: "b", Format: "raw", Reader: raw.New(bytes.NewReader(nil), 0)}}
		if _, err := all.Formats().Convert(t.Context(), converters.Source{Reader: disk}, target, converters.Options{}); !errors.Is(err, image.ErrUnsupported) {
			t.Errorf("%s: %v", format, err)
		}
		_ = f.Close()
	}
}
