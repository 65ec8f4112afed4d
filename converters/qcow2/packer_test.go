package qcow2_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/image/imagetest"
	"github.com/hyperplane-project/hyperplane/converters/internal/engine"
	"github.com/hyperplane-project/hyperplane/converters/qcow2"
)

// TestRestore interrupts the writing of an image after each of some pieces and has another writer take it up.
func TestRestore(t *testing.T) {
	t.Parallel()
	disk := &imagetest.Disk{Size: 3 << 20, Pieces: []imagetest.Piece{
		{Off: 0, Len: 1 << 20, Content: imagetest.Text},
		{Off: 1 << 20, Len: 300_000, Content: imagetest.Random},
		{Off: 2 << 20, Len: 1 << 20, Content: imagetest.Text},
	}}
	for name, o := range map[string]image.CreateOptions{
		"zlib": {Compression: "zlib"}, "small clusters": {Compression: "zlib", ClusterSize: 512}, "extended L2": {Compression: "zstd", Variant: "extended-l2"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o.VirtualSize = disk.Size
			whole := writePieces(t, disk, o, -1)
			for _, stop := range []int{0, 1, 7, 29} {
				if got := writePieces(t, disk, o, stop); !bytes.Equal(got, whole) {
					t.Errorf("taken up after %d pieces the image is another", stop)
				}
			}
		})
	}
}

// writePieces writes all of a disk. After stop pieces, if that is not negative, another writer goes on.
func writePieces(t *testing.T, disk image.Reader, o image.CreateOptions, stop int) []byte {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "disk.qcow2"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	create := func() image.Restorer {
		w, err := qcow2.Create(f, o)
		if err != nil {
			t.Fatal(err)
		}
		return w.(image.Restorer)
	}
	w := create()
	enc, err := w.NewEncoder()
	if err != nil {
		t.Fatal(err)
	}
	plain, sizes := make([]byte, w.Unit()), []int{}
	for off := int64(0); off < o.VirtualSize; off += w.Unit() {
		if len(sizes) == stop {
			w = create()
			for i, n := range sizes {
				if err := w.Restore(int64(i)*w.Unit(), n); err != nil {
					t.Fatal(err)
				}
			}
		}
		if _, err := disk.ReadAt(plain, off); err != nil {
			t.Fatal(err)
		}
		piece, err := enc.Encode(nil, plain)
		if err = errors.Join(err, w.Append(off, piece)); err != nil {
			t.Fatal(err)
		}
		sizes = append(sizes, len(piece))
	}
	if err := w.Finish(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestPassThrough copies compressed images without inflating: the streams must stay what they are.
func TestPassThrough(t *testing.T) {
	t.Parallel()
	disk := imagetest.RandomDisk(81, 5<<20)
	for _, compression := range []string{"zlib", "zstd"} {
		path := filepath.Join(t.TempDir(), "source.qcow2")
		imagetest.Qemu(t, "convert", "-f", "raw", "-O", "qcow2", "-c", "-o", "compression_type="+compression, imagetest.Raw(t, disk), path)
		src := imagetest.Open(t, harness(), path)
		out, err := os.Create(filepath.Join(t.TempDir(), "copy.qcow2"))
		if err != nil {
			t.Fatal(err)
		}
		w, err := qcow2.Create(out, image.CreateOptions{VirtualSize: disk.Size, Compression: compression})
		if err != nil {
			t.Fatal(err)
		}
		if err := engine.Copy(t.Context(), src, wrapOnly{w.(image.Appender), t}, out, engine.Options{Workers: 2, Trust: true}); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(w.Finish(), out.Close()); err != nil {
			t.Fatal(err)
		}
		imagetest.Same(t, disk, imagetest.Open(t, harness(), out.Name()))
		imagetest.Qemu(t, "check", "-f", "qcow2", out.Name())
	}
}

// wrapOnly fails the test if a cluster that compresses is compressed again.
type wrapOnly struct {
	image.Appender
	t *testing.T
}

func (w wrapOnly) NewEncoder() (image.Encoder, error) {
	e, err := w.Appender.NewEncoder()
	return wrapOnlyEncoder{e, w.t}, err
}

type wrapOnlyEncoder struct {
	image.Encoder
	t *testing.T
}

func (e wrapOnlyEncoder) Encode(dst, plain []byte) ([]byte, error) {
	got, err := e.Encoder.Encode(nil, plain)
	if len(got) < len(plain) {
		e.t.Errorf("a cluster is compressed again, to %d bytes", len(got))
	}
	return append(dst, got...), err
}

// TestWindowRefusesStreams checks that streams of unknown reach are not taken over where the reach is bounded.
func TestWindowRefusesStreams(t *testing.T) {
	t.Parallel()
	for window, want := range map[int]bool{0: true, 32768: true, 4096: false} {
		w, err := qcow2.Create(nil, image.CreateOptions{VirtualSize: 1 << 20, Compression: "zlib", Window: window})
		if err != nil {
			t.Fatal(err)
		}
		enc, err := w.(image.Appender).NewEncoder()
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := enc.Wrap(nil, image.Chunk{Len: cluster, Deflate: stream(t, cluster)}, nil); ok != want {
			t.Errorf("window %d: a stream is taken over: %v", window, ok)
		}
	}
}

// TestForwardRefused checks that what cannot be written front to back says so.
func TestForwardRefused(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]image.CreateOptions{
		"compressed": {Compression: "zlib"}, "backing": {Backing: &image.Backing{Name: "base", Format: "raw"}},
	} {
		w, err := qcow2.Create(nil, o)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.(image.Forwarder).Forward(); !errors.Is(err, image.ErrUnsupported) {
			t.Errorf("%s: %v, want ErrUnsupported", name, err)
		}
	}
}
