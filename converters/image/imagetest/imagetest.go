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
	"github.com/hyperplane-project/hyperplane/converters/internal/refs"
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
	// SevenZip is 7-Zip's name of the format and Libyal the name of libyal's Python module for it; empty if they do not know it.
	SevenZip, Libyal string
	// MaxSize is the size of the largest disk the format can hold, in bytes; 0 is none.
	MaxSize int64
}

// Variant is a way to write a format.
type Variant struct {
	Name    string
	Options image.CreateOptions
	// Fixed says that room is allocated for the whole disk, zeros or not.
	Fixed bool
	// Several says that the image consists of several files.
	Several bool
	// MaxSize is the variant's own largest disk; 0 is the format's.
	MaxSize int64
	// QemuFormat is qemu-img's name where it differs from the format's. Unreadable names the tools (qemu, 7zip, libyal) that do not read the variant.
	QemuFormat string
	Unreadable []string
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
		"OthersRead":      OthersRead,
		"Forward":         Forward,
		"ChecksClean":     ChecksClean,
		"InfoOnly":        InfoOnly,
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
	path := filepath.Join(t.TempDir(), "disk."+h.Format.Name)
	if err := writeTo(t, h, v, src, path, engine.Options{Workers: workers}, unlimited); err != nil {
		t.Fatalf("write %s: %v", v.Name, err)
	}
	return path
}

func unlimited(f *os.File) image.Output { return f }

// writeTo writes src to the file at path and, if the variant has several files, beside it. wrap makes the outputs of the files.
func writeTo(t *testing.T, h Harness, v Variant, src image.Reader, path string, opts engine.Options, wrap func(*os.File) image.Output) error {
	t.Helper()
	create := func(path string) (image.Output, error) {
		f, err := os.Create(path)
		if err != nil {
			return nil, err
		}
		t.Cleanup(func() { closeFile(t, f) })
		return wrap(f), nil
	}
	out, err := create(path)
	if err != nil {
		return err
	}
	o := v.Options
	o.Name = filepath.Base(path)
	if v.Several {
		o.Sibling = func(name string) (image.Output, error) { return create(filepath.Join(filepath.Dir(path), name)) }
	}
	return copyTo(t, h, o, src, out, opts)
}

// Copy writes src in the given variant, which has one file, to out.
func Copy(tb testing.TB, h Harness, v Variant, src image.Reader, out image.Output, workers int) error {
	tb.Helper()
	return copyTo(tb, h, v.Options, src, out, engine.Options{Workers: workers})
}

func copyTo(tb testing.TB, h Harness, o image.CreateOptions, src image.Reader, out image.Output, opts engine.Options) error {
	tb.Helper()
	o.VirtualSize, o.ContentID = src.Info().VirtualSize, contentID
	w, err := h.Format.Create(out, o)
	if err != nil {
		return err
	}
	if err := engine.Copy(tb.Context(), src, w, out, opts); err != nil {
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

// Open opens the file at path as the harness's format, with the files of its folder, and closes it when the test ends.
func Open(t *testing.T, h Harness, path string) image.Reader {
	t.Helper()
	r, err := OpenPath(t, h, path)
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

// OpenPath opens the file at path as the harness's format. Other files of its folder may be opened as images of the same format.
func OpenPath(t *testing.T, h Harness, path string) (image.Reader, error) {
	t.Helper()
	f := openFile(t, path)
	folder, err := refs.SameFolder(f, func(f image.File, format string, o image.OpenOptions) (image.Reader, error) {
		if format != h.Format.Name {
			return nil, image.Unsupportedf("the test opens images of format %s only", h.Format.Name)
		}
		return h.Format.Open(f, o)
	})
	if err != nil {
		t.Fatal(err)
	}
	r, err := h.Format.Open(f, image.OpenOptions{Refs: folder})
	closeFile(t, folder)
	if err != nil {
		closeFile(t, f)
	}
	return r, err
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
