// Package imagetest is the conformance suite of disk formats: what every reader, stream and writer must do, whatever the format. A format's tests call
// Run with what the format offers, and add what only the format has.
//
// It compares with qemu-img, an independent implementation, which must be installed.
package imagetest

import (
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/internal/engine"
)

// Harness is a format under test.
type Harness struct {
	Format image.Format
	// Variants are the ways to write the format that are tested.
	Variants []Variant
	// Strict says that the format's files have an end that must be there: a file cut anywhere is refused. raw is not strict.
	Strict bool
	// QemuFormat is qemu-img's name of the format.
	QemuFormat string
	// QemuCreate are option sets with which qemu-img makes images to be read, each as arguments of its convert command.
	QemuCreate map[string][]string
	// QemuChecks says that "qemu-img check" knows the format.
	QemuChecks bool
}

// Variant is a way to write a format.
type Variant struct {
	Name    string
	Options image.CreateOptions
}

// contentID makes files the same each time.
var contentID = [16]byte{0x12, 15: 0x34}

// Run runs the whole suite.
func Run(t *testing.T, h Harness) {
	t.Helper()
	for name, property := range map[string]func(*testing.T, Harness){
		"RoundTrip":       RoundTrip,
		"OddSizes":        OddSizes,
		"HugeSparse":      HugeSparse,
		"ZerosLeftOut":    ZerosLeftOut,
		"Deterministic":   Deterministic,
		"Truncation":      Truncation,
		"ConcurrentReads": ConcurrentReads,
		"Extents":         Extents,
		"ReadAtContract":  ReadAtContract,
		"BoundedOpen":     BoundedOpen,
		"OutputErrors":    OutputErrors,
		"StreamAgrees":    StreamAgrees,
		"StreamTruncated": StreamTruncated,
		"StreamSource":    StreamSource,
		"ReadsQemu":       ReadsQemu,
		"QemuReads":       QemuReads,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			property(t, h)
		})
	}
}

// each runs test for every variant.
func (h Harness) each(t *testing.T, test func(t *testing.T, v Variant)) {
	t.Helper()
	for _, v := range h.Variants {
		t.Run(v.Name, func(t *testing.T) {
			t.Parallel()
			test(t, v)
		})
	}
}

// Write writes src in the given variant to a file below the test's folder and returns its path.
func Write(t *testing.T, h Harness, v Variant, src image.Reader) string {
	t.Helper()
	return write(t, h, v, src, 3)
}

func write(t *testing.T, h Harness, v Variant, src image.Reader, workers int) string {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "disk."+h.Format.Name))
	if err != nil {
		t.Fatal(err)
	}
	defer closeFile(t, f)
	if err := Copy(t, h, v, src, f, workers); err != nil {
		t.Fatalf("write %s: %v", v.Name, err)
	}
	return f.Name()
}

// Copy writes src in the given variant to out.
func Copy(tb testing.TB, h Harness, v Variant, src image.Reader, out image.Output, workers int) error {
	tb.Helper()
	o := v.Options
	o.VirtualSize, o.ContentID = src.Info().VirtualSize, contentID
	w, err := h.Format.Create(out, o)
	if err != nil {
		return err
	}
	if err := engine.Copy(tb.Context(), src, w, out, engine.Options{Workers: workers}); err != nil {
		return err
	}
	return w.Finish()
}

// seed writes src for a fuzz test, which keeps images small.
func seed(f *testing.F, h Harness, v Variant, src image.Reader) []byte {
	f.Helper()
	out, err := os.Create(filepath.Join(f.TempDir(), "seed"))
	if err != nil {
		f.Fatal(err)
	}
	if err := Copy(f, h, v, src, out, 1); err != nil {
		f.Fatal(err)
	}
	if err := out.Close(); err != nil {
		f.Fatal(err)
	}
	b, err := os.ReadFile(out.Name())
	if err != nil {
		f.Fatal(err)
	}
	return b
}

// Open opens the file at path as the harness's format and closes it when the test ends.
func Open(t *testing.T, h Harness, path string) image.Reader {
	t.Helper()
	r, err := h.Format.Open(openFile(t, path))
	if err != nil {
		t.Fatalf("open %s: %v", path, err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return r
}

func openFile(t *testing.T, path string) *image.LocalFile {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	l, err := image.NewLocalFile(f)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func closeFile(t *testing.T, c io.Closer) {
	t.Helper()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}
