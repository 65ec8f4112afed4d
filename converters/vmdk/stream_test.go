package vmdk_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/image/imagetest"
	"github.com/hyperplane-project/hyperplane/converters/vmdk"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// TestStreamOfQemu reads the other layout, with the tables in front and no end marker, as a stream; whole and cut.
func TestStreamOfQemu(t *testing.T) {
	t.Parallel()
	want := imagetest.RandomDisk(5, 40_000_000)
	path := filepath.Join(t.TempDir(), "q.vmdk")
	imagetest.Qemu(t, "convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=streamOptimized", imagetest.Raw(t, want), path)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s, err := vmdk.OpenStream(bytes.NewReader(b), -1)
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, s.Info().VirtualSize)
	for {
		c, err := s.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Decode(got[c.Off:][:c.Len]); err != nil {
			t.Fatal(err)
		}
		c.Release()
	}
	imagetest.Same(t, want, memory(got))
	// Content that ends the file is followed by up to a grain of zeros, of which nothing is missed.
	half := len(b) / 2 / sector * sector
	for _, n := range []int{half, half + 1, len(b) - 2*grain} {
		if err := streamError(b[:n]); !errors.Is(err, image.ErrTruncated) {
			t.Errorf("cut at %d of %d: %v, want ErrTruncated", n, len(b), err)
		}
	}
}

func memory(b []byte) image.Reader { return memoryDisk{bytes.NewReader(b)} }

type memoryDisk struct{ *bytes.Reader }

func (m memoryDisk) Info() image.Info { return image.Info{VirtualSize: m.Size()} }
func (m memoryDisk) Close() error     { return nil }
func (m memoryDisk) NextExtent(off int64) (image.Extent, error) {
	return image.Extent{Off: off, Len: m.Size() - off, Host: -1}, nil
}

// TestWriteStream writes to a pipe and looks at what VMware's products want to see.
func TestWriteStream(t *testing.T) {
	t.Parallel()
	r, w := io.Pipe()
	go func() {
		_ = w.CloseWithError(vmdk.WriteStream(t.Context(), w, disk(), vmdk.StreamOptions{
			ContentID: [16]byte{1, 2, 3, 12: 0xff, 0xff, 0xff, 0xfe}, Name: "a \"b\"/c\n", AdapterType: "ide", HWVersion: 19,
		}))
	}()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if v := binary.LittleEndian.Uint32(b[4:]); v != 3 {
		t.Errorf("header version is %d, want 3", v)
	}
	if gd := binary.LittleEndian.Uint64(b[56:]); gd != 1<<64-1 {
		t.Errorf("grain directory is at %#x, want at the end", gd)
	}
	text := string(b[sector : sector+bytes.IndexByte(b[sector:], 0)])
	for _, want := range []string{
		"CID=ffffff00\n", "parentCID=ffffffff\n", "createType=\"streamOptimized\"\n", "RW 1280 SPARSE \"a _b__c_\"\n", "ddb.adapterType = \"ide\"\n",
		"ddb.longContentID = \"010203000000000000000000ffffff00\"\n", "ddb.virtualHWVersion = \"19\"\n", "ddb.toolsVersion = \"2147483647\"\n",
		"ddb.toolsInstallType = \"4\"\n", "ddb.geometry.sectors = \"63\"\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the descriptor lacks %q:\n%s", want, text)
		}
	}
	if end := b[len(b)-sector:]; !bytes.Equal(end, make([]byte, sector)) {
		t.Errorf("the last sector is no end marker")
	}
	if err := streamError(b); err != nil {
		t.Error(err)
	}
}

// TestContentID checks that an ID that is not given is random.
func TestContentID(t *testing.T) {
	t.Parallel()
	id := regexp.MustCompile(`longContentID = "([0-9a-f]{32})"`)
	seen := map[string]bool{}
	for range 3 {
		var b bytes.Buffer
		if err := vmdk.WriteStream(t.Context(), &b, &imagetest.Disk{Size: 512}, vmdk.StreamOptions{}); err != nil {
			t.Fatal(err)
		}
		m := id.FindSubmatch(b.Bytes())
		if m == nil || seen[string(m[1])] || strings.Trim(string(m[1]), "0") == "" {
			t.Fatalf("longContentID is %q", m)
		}
		seen[string(m[1])] = true
	}
}

func TestWriteStreamRefuses(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]vmdk.StreamOptions{
		"grain 3000": {GrainSize: 3000}, "grain of 1 MiB": {GrainSize: 1 << 20}, "level 10": {Level: 10}, "name": {Name: strings.Repeat("x", 20_000)},
	} {
		if err := vmdk.WriteStream(t.Context(), io.Discard, disk(), o); !fault.Is(err, fault.InvalidArgument) {
			t.Errorf("%s: %v, want InvalidArgument", name, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := vmdk.WriteStream(ctx, io.Discard, disk(), vmdk.StreamOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("under an ended context: %v", err)
	}
}

// TestScatteredGrains writes a disk whose grains come so far out of order that their tables cannot be kept: that is said, and less disorder works.
func TestScatteredGrains(t *testing.T) {
	t.Parallel()
	const size = 1 << 40
	w, err := vmdk.Create(discard{}, image.CreateOptions{VirtualSize: size, ClusterSize: 4096})
	if err != nil {
		t.Fatal(err)
	}
	a := w.(image.Appender)
	enc, err := a.NewEncoder()
	if err != nil {
		t.Fatal(err)
	}
	piece, err := enc.Encode(nil, bytes.Repeat([]byte{1}, 4096))
	if err != nil {
		t.Fatal(err)
	}
	const cover = 512 * 4096 // of a grain table
	for i := range int64(5000) {
		if err := a.Append(i*cover, piece); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Append(4999*cover+4096, piece); err != nil {
		t.Errorf("a grain of a table in memory: %v", err)
	}
	if err := a.Append(4096, piece); !errors.Is(err, image.ErrUnsupported) {
		t.Errorf("a grain of a table that was written: %v, want ErrUnsupported", err)
	}
	if err := a.Append(4999*cover, piece); !fault.Is(err, fault.Internal) {
		t.Errorf("the same grain again: %v, want Internal", err)
	}
}

// discard is an output that keeps nothing.
type discard struct{}

func (discard) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }
func (discard) ReadAt([]byte, int64) (int, error)      { return 0, io.EOF }
func (discard) Truncate(int64) error                   { return nil }
