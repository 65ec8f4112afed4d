package ova_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/image/imagetest"
	"github.com/hyperplane-project/hyperplane/converters/ova"
	"github.com/hyperplane-project/hyperplane/converters/qcow2"
	"github.com/hyperplane-project/hyperplane/converters/vmdk"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

func format() image.Format { return ova.Format(vmdk.Format(), qcow2.Format()) }

func harness() imagetest.Harness { return imagetest.Harness{Format: format()} }

// part is a member of a test archive.
type part struct {
	name    string
	content []byte
}

func archive(tb testing.TB, parts ...part) []byte {
	tb.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, p := range parts {
		if err := w.WriteHeader(&tar.Header{Name: p.name, Size: int64(len(p.content)), Mode: 0o644}); err != nil {
			tb.Fatal(err)
		}
		if _, err := w.Write(p.content); err != nil {
			tb.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

// stream returns disk as a streamOptimized file.
func stream(tb testing.TB, disk *imagetest.Disk) []byte {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "disk.vmdk")
	f, err := os.Create(path)
	if err != nil {
		tb.Fatal(err)
	}
	err = imagetest.Copy(tb, imagetest.Harness{Format: vmdk.Format()}, imagetest.Variant{}, disk, f, 2)
	if err := errors.Join(err, f.Close()); err != nil {
		tb.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func open(b []byte, o image.OpenOptions) (image.Reader, error) {
	return format().Open(image.NewFile(bytes.NewReader(b), int64(len(b)), "test.ova"), o)
}

func testDisk() *imagetest.Disk { return imagetest.RandomDisk(1, 2_000_384) }

// TestRead reads the only disk of an archive, both ways.
func TestRead(t *testing.T) {
	t.Parallel()
	disk := testDisk()
	b := archive(t, part{"vm.ovf", []byte("<Envelope/>")}, part{"vm.mf", nil}, part{"vm-disk1.vmdk", stream(t, disk)})
	r, err := open(b, image.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	imagetest.Same(t, disk, r)
	if info := r.Info(); info.Format != "ova" || info.Variant != "vmdk streamOptimized" || !cmp.Equal(info.Members, []string{"vm-disk1.vmdk"}) {
		t.Errorf("the archive is described as %+v", info)
	}
	if _, ok := r.(image.ChunkReader); !ok {
		t.Error("the disk's compressed content cannot be taken over")
	}
	content, err := drainStream(b)
	if err != nil {
		t.Fatal(err)
	}
	want := make([]byte, len(content))
	if _, err := r.ReadAt(want, 0); err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	if !bytes.Equal(content, want) {
		t.Error("read as a stream the disk is another")
	}
}

// drainStream reads an archive front to back.
func drainStream(b []byte) ([]byte, error) {
	s, err := format().OpenStream(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return nil, err
	}
	content := make([]byte, s.Info().VirtualSize)
	for {
		c, err := s.Next()
		if errors.Is(err, io.EOF) {
			return content, nil
		}
		if err != nil {
			return nil, err
		}
		err = c.Decode(content[c.Off:][:c.Len])
		c.Release()
		if err != nil {
			return nil, err
		}
	}
}

// TestSeveralDisks wants a member to be chosen.
func TestSeveralDisks(t *testing.T) {
	t.Parallel()
	disk := testDisk()
	b := archive(t, part{"a.vmdk", stream(t, &imagetest.Disk{Size: 1 << 20})}, part{"b.vmdk", stream(t, disk)})
	_, err := open(b, image.OpenOptions{})
	if fault.CodeOf(err) != fault.InvalidArgument || !strings.Contains(err.Error(), "a.vmdk, b.vmdk") {
		t.Errorf("without a choice: %v", err)
	}
	if _, err := open(b, image.OpenOptions{Member: "c.vmdk"}); fault.CodeOf(err) != fault.NotFound {
		t.Errorf("a member that is not there: %v", err)
	}
	r, err := open(b, image.OpenOptions{Member: "b.vmdk"})
	if err != nil {
		t.Fatal(err)
	}
	imagetest.Same(t, disk, r)
	r, err = open(b, image.OpenOptions{InfoOnly: true})
	if err != nil || len(r.Info().Members) != 2 {
		t.Errorf("the archive's description: %v", err)
	}
	if _, err := drainStream(b); fault.CodeOf(err) != fault.InvalidArgument {
		t.Errorf("as a stream the second disk is left out: %v", err)
	}
}

// TestRefused reads what is no archive of disks, or a damaged one.
func TestRefused(t *testing.T) {
	t.Parallel()
	good := archive(t, part{"vm.ovf", []byte("x")}, part{"d.vmdk", stream(t, testDisk())})
	broken := bytes.Clone(good)
	broken[1024+3] ^= 1 // inside the second header, whose checksum is then wrong
	many := make([]part, 1001)
	for i := range many {
		many[i].name = "x"
	}
	for name, c := range map[string]struct {
		file []byte
		want error
	}{
		"not an archive": {make([]byte, 4096), image.ErrWrongFormat},
		"cut off":        {good[:len(good)/2], image.ErrTruncated},
		"damaged header": {broken, image.ErrCorrupt},
		"other content":  {archive(t, part{"d.vmdk", make([]byte, 2048)}), image.ErrCorrupt},
		"many members":   {archive(t, many...), image.ErrLimit},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := open(c.file, image.OpenOptions{}); !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
	if _, err := open(archive(t, part{"readme", nil}), image.OpenOptions{}); fault.CodeOf(err) != fault.InvalidArgument {
		t.Errorf("an archive without disks: %v", err)
	}
	if _, err := drainStream(good[:len(good)-1500]); err == nil {
		t.Error("a stream that ends early is read")
	}
}

// FuzzOpen fuzzes the archive's directory and what it leads to.
func FuzzOpen(f *testing.F) {
	f.Add(archive(f, part{"vm.ovf", []byte("x")}, part{"d.vmdk", stream(f, &imagetest.Disk{Size: 1 << 20})}))
	f.Fuzz(func(t *testing.T, b []byte) {
		err := imagetest.OpenAndDrain(harness(), b)
		if err != nil && !imagetest.Refused(err) && fault.CodeOf(err) != fault.InvalidArgument {
			t.Fatalf("%v: is no error an image is refused with", err)
		}
	})
}
