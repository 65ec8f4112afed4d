package converters_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"runtime/metrics"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hyperplane-project/hyperplane/converters"
	"github.com/hyperplane-project/hyperplane/converters/all"
	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/image/imagetest"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// targets are the kinds of image that are written.
func targets() map[string]converters.Target {
	return map[string]converters.Target{
		"raw":        {Format: "raw"},
		"qcow2":      {Format: "qcow2"},
		"qcow2 zlib": {Format: "qcow2", Compression: "zlib"},
		"qcow2 zstd": {Format: "qcow2", Compression: "zstd"},
		"vmdk":       {Format: "vmdk"},
	}
}

func create(t *testing.T, name string) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// convert copies src into a new file and returns its path.
func convert(t *testing.T, src converters.Source, dst converters.Target, o converters.Options) (string, converters.Result) {
	t.Helper()
	f := create(t, "disk."+dst.Format)
	dst.Out = f
	res, err := all.Formats().Convert(t.Context(), src, dst, o)
	if err != nil {
		t.Fatalf("convert to %s: %v", dst.Format, err)
	}
	return f.Name(), res
}

// patched writes the bytes of a changed image to a file.
func patched(t *testing.T, b []byte) string {
	t.Helper()
	f := create(t, "patched")
	if _, err := f.Write(b); err != nil {
		t.Fatal(err)
	}
	return f.Name()
}

func open(t *testing.T, path string) image.Reader {
	t.Helper()
	r, err := all.Formats().Open(t.Context(), path, converters.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

func openStream(t *testing.T, format, path string) image.Stream {
	t.Helper()
	f, err := os.Open(path) //nolint:gosec // the test chose the path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	s, err := all.Formats().OpenStream(format, f, st.Size())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func digest(t *testing.T, r image.Reader) [sha256.Size]byte {
	t.Helper()
	sum, err := converters.Digest(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

// TestAllPairs copies a disk from each format to each other, from files and from streams, and compares content and digest.
func TestAllPairs(t *testing.T) {
	t.Parallel()
	disk := imagetest.RandomDisk(1, 3_000_832) // whole sectors: every format keeps the size
	sum := digest(t, disk)
	for from, source := range targets() {
		path, _ := convert(t, converters.Source{Reader: disk}, source, converters.Options{})
		for to, target := range targets() {
			t.Run(from+" to "+to, func(t *testing.T) {
				t.Parallel()
				out, res := convert(t, converters.Source{Reader: open(t, path)}, target, converters.Options{SHA256: true})
				imagetest.Same(t, disk, open(t, out))
				if res.SHA256 != sum {
					t.Errorf("digest is %x, want %x", res.SHA256, sum)
				}
				if source.Format == "qcow2" {
					return // has no stream
				}
				out, res = convert(t, converters.Source{Stream: openStream(t, source.Format, path)}, target, converters.Options{SHA256: true})
				imagetest.Same(t, disk, open(t, out))
				if res.SHA256 != sum {
					t.Errorf("digest of the stream is %x, want %x", res.SHA256, sum)
				}
			})
		}
	}
}

// TestDigestOutOfOrder copies a stream whose chunks are shuffled: the digest must come from reading the output.
func TestDigestOutOfOrder(t *testing.T) {
	t.Parallel()
	disk := imagetest.RandomDisk(2, 5_000_100)
	sum := digest(t, disk)
	for name, target := range targets() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			src := &imagetest.ChunkStream{Disk: disk, Unit: 64 << 10}
			for i := range (disk.Size + src.Unit - 1) / src.Unit {
				src.Order = append(src.Order, (i*31+5)%77)
			}
			_, res := convert(t, converters.Source{Stream: src}, target, converters.Options{SHA256: true})
			if res.SHA256 != sum {
				t.Errorf("digest is %x, want %x", res.SHA256, sum)
			}
		})
	}
}

// TestPassThrough checks that compressed units are passed on as they are, that they are checked on the way, and not if the source is trusted.
func TestPassThrough(t *testing.T) {
	t.Parallel()
	disk := &imagetest.Disk{Size: 4 << 20, Pieces: []imagetest.Piece{{Off: 0, Len: 4 << 20, Content: imagetest.Text}}}
	path, _ := convert(t, converters.Source{Reader: disk}, converters.Target{Format: "vmdk", Level: 1}, converters.Options{})
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const firstGrain = 64 << 10
	stream := b[firstGrain+14:][:100]
	target := converters.Target{Format: "qcow2", Compression: "zlib", Level: 9}
	out, _ := convert(t, converters.Source{Reader: open(t, path)}, target, converters.Options{})
	if got, err := os.ReadFile(out); err != nil || !bytes.Contains(got, stream) {
		t.Errorf("the first grain's deflate stream is not in the output (%v)", err)
	}
	imagetest.Same(t, disk, open(t, out))

	size := int(b[firstGrain+8]) | int(b[firstGrain+9])<<8
	b[firstGrain+12+size-1] ^= 1 // the checksum's last byte
	path = patched(t, b)
	for name, src := range map[string]converters.Source{
		"reader": {Reader: open(t, path)}, "stream": {Stream: openStream(t, "vmdk", path)},
	} {
		target.Out = create(t, "x")
		if _, err := all.Formats().Convert(t.Context(), src, target, converters.Options{}); !errors.Is(err, image.ErrCorrupt) {
			t.Errorf("%s: a wrong checksum gives %v, want ErrCorrupt", name, err)
		}
	}
	out, _ = convert(t, converters.Source{Reader: open(t, path)}, target, converters.Options{Trust: true})
	imagetest.Same(t, disk, open(t, out))
}

// cancelReader ends the context after so many reads and counts those that come later.
type cancelReader struct {
	image.Reader
	cancel context.CancelFunc
	reads  atomic.Int64
	after  int64
}

func (c *cancelReader) ReadAt(p []byte, off int64) (int, error) {
	if c.reads.Add(1) == c.after {
		c.cancel()
	}
	return c.Reader.ReadAt(p, off)
}

func TestCancel(t *testing.T) {
	t.Parallel()
	disk := &imagetest.Disk{Size: 1 << 40, Pieces: []imagetest.Piece{{Off: 0, Len: 1 << 40, Content: imagetest.Zeros}}}
	for name, target := range targets() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			const workers = 3
			src := &cancelReader{Reader: disk, cancel: cancel, after: 20}
			target.Out = create(t, "x")
			_, err := all.Formats().Convert(ctx, converters.Source{Reader: src}, target, converters.Options{Workers: workers, SHA256: true})
			if !errors.Is(err, context.Canceled) || !fault.Is(err, fault.Canceled) {
				t.Errorf("error is %v, want Canceled", err)
			}
			if n := src.reads.Load(); n > src.after+2*workers {
				t.Errorf("%d reads after the end of the context", n-src.after)
			}
		})
	}
}

// failingReader fails at an offset.
type failingReader struct{ image.Reader }

var errRead = errors.New("the cable is loose")

func (f failingReader) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > 2<<20 {
		return 0, errRead
	}
	return f.Reader.ReadAt(p, off)
}

func TestSourceErrors(t *testing.T) {
	t.Parallel()
	disk := &imagetest.Disk{Size: 5 << 20, Pieces: []imagetest.Piece{{Off: 0, Len: 5 << 20, Content: imagetest.Text}}}
	for name, target := range targets() {
		target.Out = create(t, "x")
		_, err := all.Formats().Convert(t.Context(), converters.Source{Reader: failingReader{disk}}, target, converters.Options{})
		if !errors.Is(err, errRead) || !strings.Contains(err.Error(), "offset") {
			t.Errorf("%s: error is %v, want the reader's with the offset", name, err)
		}
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	disk := &imagetest.Disk{Size: 80 << 20, Pieces: []imagetest.Piece{{Off: 0, Len: 80 << 20, Content: imagetest.Random}}}
	for name, o := range map[string]converters.Options{
		"virtual size": {MaxVirtualSize: 80<<20 - 1}, "output": {MaxOutput: 1 << 20},
	} {
		for format, target := range targets() {
			f := create(t, "x")
			target.Out = f
			_, err := all.Formats().Convert(t.Context(), converters.Source{Reader: disk}, target, o)
			if !errors.Is(err, image.ErrLimit) || !fault.Is(err, fault.ResourceExhausted) {
				t.Errorf("%s to %s: error is %v, want ErrLimit", name, format, err)
			}
			if st, err := f.Stat(); err != nil || st.Size() > 2<<20 && o.MaxOutput > 0 && format != "qcow2" && format != "raw" {
				t.Errorf("%s to %s: the output has %d bytes, %v", name, format, st.Size(), err)
			}
		}
	}
}

// TestAmplification converts small files that stand for large disks: all entries of the L2 table point to one cluster.
func TestAmplification(t *testing.T) {
	t.Parallel()
	disk := &imagetest.Disk{Size: 512 << 20, Pieces: []imagetest.Piece{{Off: 0, Len: 1 << 20, Content: imagetest.Text}}}
	for _, compression := range []string{"", "zlib"} {
		path, _ := convert(t, converters.Source{Reader: disk}, converters.Target{Format: "qcow2", Compression: compression}, converters.Options{})
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		const l1 = 64 << 10
		l2 := int(b[l1+5])<<16 | int(b[l1+6])<<8
		for i := 1; i < 8192; i++ {
			copy(b[l2+i*8:], b[l2:l2+8])
		}
		target := converters.Target{Format: "raw", Out: create(t, "x")}
		_, err = all.Formats().Convert(t.Context(), converters.Source{Reader: open(t, patched(t, b))}, target, converters.Options{MaxRatio: 50})
		if !errors.Is(err, image.ErrLimit) {
			t.Errorf("compression %q: error is %v, want ErrLimit", compression, err)
		}
	}
}

// fullOutput is an output without room.
type fullOutput struct{ *os.File }

func (fullOutput) WriteAt([]byte, int64) (int, error) { return 0, unix.ENOSPC }

func TestNoSpace(t *testing.T) {
	t.Parallel()
	disk := &imagetest.Disk{Size: 1 << 20, Pieces: []imagetest.Piece{{Off: 0, Len: 1 << 20, Content: imagetest.Random}}}
	for name, target := range targets() {
		target.Out = fullOutput{create(t, "x")}
		_, err := all.Formats().Convert(t.Context(), converters.Source{Reader: disk}, target, converters.Options{})
		if !errors.Is(err, unix.ENOSPC) || !fault.Is(err, fault.ResourceExhausted) || !strings.Contains(err.Error(), "offset") {
			t.Errorf("%s: error is %v, want ENOSPC with the offset", name, err)
		}
	}
}

func TestProgress(t *testing.T) {
	t.Parallel()
	disk := imagetest.RandomDisk(9, 20_000_256)
	path, _ := convert(t, converters.Source{Reader: disk}, converters.Target{Format: "vmdk"}, converters.Options{})
	var last converters.Progress
	calls := 0
	_, res := convert(t, converters.Source{Reader: open(t, path)}, converters.Target{Format: "raw"}, converters.Options{Progress: func(p converters.Progress) {
		calls++
		if p.Virtual < last.Virtual || p.Data < last.Data || p.Read < last.Read || p.Written < last.Written {
			t.Errorf("progress goes back from %+v to %+v", last, p)
		}
		last = p
	}})
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if calls == 0 || last != res.Progress || last.Virtual != disk.Size || last.VirtualSize != disk.Size {
		t.Errorf("last of %d calls is %+v, result %+v, disk %d", calls, last, res.Progress, disk.Size)
	}
	if last.Read < st.Size()/2 || last.Read > 2*st.Size() || last.Written == 0 || last.Data < last.Written {
		t.Errorf("%+v does not fit a file of %d bytes", last, st.Size())
	}
}

// TestMemory copies more than memory may be used, with few and with many workers.
func TestMemory(t *testing.T) { //nolint:paralleltest // it looks at the process' memory
	const size = 256 << 20
	disk := &imagetest.Disk{Size: size}
	for off := int64(0); off < size; off += 8 << 20 {
		disk.Pieces = append(disk.Pieces, imagetest.Piece{Off: off, Len: 256 << 10, Content: imagetest.Text},
			imagetest.Piece{Off: off + 256<<10, Len: 8<<20 - 256<<10, Content: imagetest.Zeros})
	}
	for name, target := range targets() {
		for _, workers := range []int{2, 64} {
			peak := uint64(0)
			src := sampledReader{disk, func() { peak = max(peak, heap()) }}
			runtime.GC()
			before := heap()
			convert(t, converters.Source{Reader: src}, target, converters.Options{Workers: workers})
			if grown := int64(peak) - int64(before); grown > 60<<20 {
				t.Errorf("%s with %d workers takes %d MiB", name, workers, grown>>20)
			}
		}
	}
}

// sampledReader calls sample when the copy asks for an extent, which it does from one goroutine.
type sampledReader struct {
	image.Reader
	sample func()
}

func (s sampledReader) NextExtent(off int64) (image.Extent, error) {
	s.sample()
	const piece = 8 << 20
	e, err := s.Reader.NextExtent(off)
	e.Len = min(e.Len, piece)
	return e, err
}

// heap returns the bytes of memory in use or not yet returned by the garbage collector.
func heap() uint64 {
	s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/unused:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64() + s[1].Value.Uint64()
}

func TestConvertRefuses(t *testing.T) {
	t.Parallel()
	disk := &imagetest.Disk{Size: 1 << 20}
	huge := &imagetest.Disk{Size: math.MaxInt64 - 1<<20}
	for name, c := range map[string]struct {
		src  converters.Source
		dst  converters.Target
		code fault.Code
	}{
		"no source":        {converters.Source{}, converters.Target{Format: "raw"}, fault.Internal},
		"unknown format":   {converters.Source{Reader: disk}, converters.Target{Format: "floppy"}, fault.InvalidArgument},
		"only recognised":  {converters.Source{Reader: disk}, converters.Target{Format: "qed"}, fault.InvalidArgument},
		"raw zlib":         {converters.Source{Reader: disk}, converters.Target{Format: "raw", Compression: "zlib"}, fault.Unimplemented},
		"raw clusters":     {converters.Source{Reader: disk}, converters.Target{Format: "raw", ClusterSize: 4096}, fault.Unimplemented},
		"raw variant":      {converters.Source{Reader: disk}, converters.Target{Format: "raw", Variant: "x"}, fault.Unimplemented},
		"qcow2 variant":    {converters.Source{Reader: disk}, converters.Target{Format: "qcow2", Variant: "v2"}, fault.Unimplemented},
		"qcow2 cluster":    {converters.Source{Reader: disk}, converters.Target{Format: "qcow2", ClusterSize: 1000}, fault.InvalidArgument},
		"qcow2 lzo":        {converters.Source{Reader: disk}, converters.Target{Format: "qcow2", Compression: "lzo"}, fault.Unimplemented},
		"qcow2 level 10":   {converters.Source{Reader: disk}, converters.Target{Format: "qcow2", Compression: "zlib", Level: 10}, fault.InvalidArgument},
		"qcow2 zstd level": {converters.Source{Reader: disk}, converters.Target{Format: "qcow2", Compression: "zstd", Level: -1}, fault.InvalidArgument},
		"qcow2 too large":  {converters.Source{Reader: huge}, converters.Target{Format: "qcow2"}, fault.ResourceExhausted},
		"vmdk too large":   {converters.Source{Reader: huge}, converters.Target{Format: "vmdk"}, fault.ResourceExhausted},
		"vmdk variant":     {converters.Source{Reader: disk}, converters.Target{Format: "vmdk", Variant: "monolithicFlat"}, fault.Unimplemented},
		"vmdk zstd":        {converters.Source{Reader: disk}, converters.Target{Format: "vmdk", Compression: "zstd"}, fault.Unimplemented},
		"vmdk grain":       {converters.Source{Reader: disk}, converters.Target{Format: "vmdk", ClusterSize: 1 << 20}, fault.InvalidArgument},
		"vmdk level":       {converters.Source{Reader: disk}, converters.Target{Format: "vmdk", Level: 11}, fault.InvalidArgument},
		"small chunks, zlib": {
			converters.Source{Stream: &imagetest.ChunkStream{Disk: disk, Unit: 4096}},
			converters.Target{Format: "qcow2", Compression: "zlib", ClusterSize: 64 << 10},
			fault.Unimplemented,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.dst.Out = create(t, "x")
			if _, err := all.Formats().Convert(t.Context(), c.src, c.dst, converters.Options{}); !fault.Is(err, c.code) {
				t.Errorf("error is %v with code %d, want code %d", err, fault.CodeOf(err), c.code)
			}
		})
	}
}
