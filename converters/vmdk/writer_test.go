package vmdk_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/image/imagetest"
	"github.com/hyperplane-project/hyperplane/converters/vmdk"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// TestCreateRefuses asks for what a variant does not have.
func TestCreateRefuses(t *testing.T) {
	t.Parallel()
	const tooMuch = fault.ResourceExhausted
	for name, c := range map[string]struct {
		o    image.CreateOptions
		want error
		code fault.Code
	}{
		"variant":              {image.CreateOptions{Variant: "vmfs"}, image.ErrUnsupported, fault.Unimplemented},
		"zstd":                 {image.CreateOptions{Compression: "zstd"}, image.ErrUnsupported, fault.Unimplemented},
		"sparse and zlib":      {image.CreateOptions{Variant: "monolithicSparse", Compression: "zlib"}, image.ErrUnsupported, fault.Unimplemented},
		"flat clusters":        {image.CreateOptions{Variant: "monolithicFlat", ClusterSize: 4096, Sibling: noSibling}, image.ErrUnsupported, fault.Unimplemented},
		"window":               {image.CreateOptions{Window: 4096}, image.ErrUnsupported, fault.Unimplemented},
		"backing":              {image.CreateOptions{Backing: &image.Backing{}}, image.ErrUnsupported, fault.Unimplemented},
		"flat alone":           {image.CreateOptions{Variant: "monolithicFlat"}, image.ErrUnsupported, fault.Unimplemented},
		"split alone":          {image.CreateOptions{Variant: "twoGbMaxExtentSparse"}, image.ErrUnsupported, fault.Unimplemented},
		"no room for siblings": {image.CreateOptions{Variant: "twoGbMaxExtentFlat", Sibling: noSibling}, errNoSibling, fault.Unknown},
		"grain of 3000":        {image.CreateOptions{Variant: "monolithicSparse", ClusterSize: 3000}, nil, fault.InvalidArgument},
		"sparse of 2 TiB":      {image.CreateOptions{Variant: "monolithicSparse", VirtualSize: 2<<40 + 1}, image.ErrLimit, tooMuch},
		"sparse of -1":         {image.CreateOptions{Variant: "monolithicSparse", VirtualSize: -1}, image.ErrLimit, tooMuch},
		"split of 9 TiB":       {image.CreateOptions{Variant: "twoGbMaxExtentFlat", VirtualSize: 9 << 40, Sibling: noSibling}, image.ErrLimit, tooMuch},
		"name":                 {image.CreateOptions{Variant: "monolithicSparse", Name: strings.Repeat("x", 20_000)}, nil, fault.InvalidArgument},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := vmdk.Create(discard{}, c.o)
			if c.want != nil && !errors.Is(err, c.want) || !fault.Is(err, c.code) {
				t.Errorf("error is %v, want %v, code %d", err, c.want, c.code)
			}
		})
	}
}

var errNoSibling = errors.New("no sibling")

func noSibling(string) (image.Output, error) { return nil, errNoSibling }

// TestNames looks at the files of disks of several files.
func TestNames(t *testing.T) {
	t.Parallel()
	const extent = 4192256
	for _, c := range []struct {
		variant, name string
		want          []string
		sectors       []int
	}{
		{"monolithicFlat", "my disk.VMDK", []string{"my disk-flat.vmdk"}, []int{extent + 9}},
		{"twoGbMaxExtentFlat", "a\"b/c", []string{"a_b_c-f001.vmdk", "a_b_c-f002.vmdk"}, []int{extent, 9}},
		{"twoGbMaxExtentSparse", "", []string{"disk-s001.vmdk", "disk-s002.vmdk"}, []int{extent, 9}},
	} {
		t.Run(c.variant, func(t *testing.T) {
			t.Parallel()
			main := filepath.Join(t.TempDir(), "main")
			out, err := os.Create(main)
			if err != nil {
				t.Fatal(err)
			}
			defer out.Close()
			w, err := createBeside(out, image.CreateOptions{Variant: c.variant, Name: c.name, VirtualSize: (extent + 9) * sector})
			if err != nil {
				t.Fatal(err)
			}
			if err := w.Finish(); err != nil {
				t.Fatal(err)
			}
			text, err := os.ReadFile(main)
			if err != nil {
				t.Fatal(err)
			}
			for i, name := range c.want {
				if line := fmt.Sprintf("\nRW %d ", c.sectors[i]); !strings.Contains(string(text), line) || !strings.Contains(string(text), "\""+name+"\"") {
					t.Errorf("the descriptor lacks %q, %q:\n%s", line, name, text)
				}
				if _, err := os.Stat(filepath.Join(filepath.Dir(main), name)); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// TestSplitDisk writes over the border of two extents, in an order that is not the disk's, and has others read it.
func TestSplitDisk(t *testing.T) {
	t.Parallel()
	const border = 4192256 * sector
	disk := &imagetest.Disk{Size: border + 3<<20 + 512, Pieces: []imagetest.Piece{
		{Off: 70_000, Len: 5000, Content: imagetest.Text},
		{Off: border - 100_000, Len: 300_000, Content: imagetest.Random},
		{Off: border + 3<<20, Len: 512, Content: imagetest.Text},
	}}
	for _, v := range plainHarness().Variants[2:] {
		t.Run(v.Name, func(t *testing.T) {
			t.Parallel()
			path := imagetest.Write(t, plainHarness(), v, disk)
			imagetest.Same(t, disk, imagetest.Open(t, plainHarness(), path))
			imagetest.Qemu(t, "compare", "-f", "raw", "-F", "vmdk", imagetest.Raw(t, disk), path)
		})
	}
}

// TestManyTables fills more grain tables than are kept in memory, and comes back to the first.
func TestManyTables(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "many.vmdk")
	out, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	const cover = 512 * 4096
	w, err := vmdk.Create(out, image.CreateOptions{Variant: "monolithicSparse", ClusterSize: 4096, VirtualSize: 10_000 * cover})
	if err != nil {
		t.Fatal(err)
	}
	put := func(off int64) {
		host, n, err := w.(image.Placer).Place(off, 4096)
		if err != nil || n != 4096 {
			t.Fatalf("%d bytes are placed, %v", n, err)
		}
		if _, err := out.WriteAt(fmt.Appendf(nil, "%4096d", off), host); err != nil {
			t.Fatal(err)
		}
	}
	var offsets []int64
	for i := range int64(9000) {
		offsets = append(offsets, i*cover)
	}
	offsets = append(offsets, 4096, 9000*cover-4096)
	for _, off := range offsets {
		put(off)
	}
	put(0) // keeps its place
	if err := w.Finish(); err != nil {
		t.Fatal(err)
	}
	r := imagetest.Open(t, plainHarness(), path)
	for _, off := range offsets {
		p := make([]byte, 4096)
		if _, err := r.ReadAt(p, off); err != nil || !bytes.Equal(p, fmt.Appendf(nil, "%4096d", off)) {
			t.Fatalf("content of offset %d is lost, %v", off, err)
		}
	}
	imagetest.Qemu(t, "check", "-f", "vmdk", path)
}

// TestClone clones into the files of a disk: each piece goes to the file and the place it belongs.
func TestClone(t *testing.T) {
	t.Parallel()
	const border = 4192256 * sector
	var got []string
	w, err := vmdk.Create(discard{}, image.CreateOptions{
		Variant: "twoGbMaxExtentFlat", VirtualSize: border + 1<<20,
		Sibling: func(name string) (image.Output, error) { return &cloneLog{name: name, log: &got}, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	content := w.(image.Redirector).Content()
	if err := content.(image.CloneOutput).Clone(nil, 4096, border+8192, 4096); err != nil {
		t.Fatal(err)
	}
	if err := content.Truncate(0); err != nil {
		t.Fatal(err)
	}
	if want := "[disk-f002.vmdk 8192+4096 disk-f001.vmdk 0 disk-f002.vmdk 0]"; fmt.Sprint(got) != want {
		t.Errorf("the files get %v, want %s", got, want)
	}
	if err := content.Truncate(1); !fault.Is(err, fault.Internal) {
		t.Errorf("error is %v, want Internal", err)
	}
}

type cloneLog struct {
	discard
	name string
	log  *[]string
}

func (c *cloneLog) Clone(_ *os.File, _, to, n int64) error {
	*c.log = append(*c.log, fmt.Sprintf("%s %d+%d", c.name, to, n))
	return nil
}

func (c *cloneLog) Truncate(size int64) error {
	*c.log = append(*c.log, fmt.Sprintf("%s %d", c.name, size))
	return nil
}
