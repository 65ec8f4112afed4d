package vhd_test

import (
	"bytes"
	"os"
	"testing"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/image/imagetest"
	"github.com/hyperplane-project/hyperplane/converters/vhd"
)

func harness() imagetest.Harness {
	return imagetest.Harness{
		Format: vhd.Format(), QemuFormat: "vpc", SevenZip: "VHD", Libyal: "pyvhdi", Strict: true, MaxSize: 2040 << 30,
		Variants: []imagetest.Variant{
			{Name: "dynamic"},
			{Name: "dynamic 512 KiB blocks", Options: image.CreateOptions{ClusterSize: 512 << 10}},
			{Name: "fixed", Options: image.CreateOptions{Variant: "fixed"}, Fixed: true},
		},
		QemuCreate: map[string][]string{
			"dynamic": {"-o", "force_size=on"},
			"fixed":   {"-o", "subformat=fixed,force_size=on"},
		},
	}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	imagetest.Run(t, harness())
}

// TestLayout checks what others rely on: a fixed disk's file is its content and the footer, and the content of a dynamic disk's blocks begins at a multiple
// of 4 KiB, behind a bitmap of ones.
func TestLayout(t *testing.T) {
	t.Parallel()
	disk := imagetest.RandomDisk(3, 9<<20+512)
	for _, v := range harness().Variants {
		path := imagetest.Write(t, harness(), v, disk)
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if v.Fixed {
			if len(b) != 9<<20+1024 {
				t.Errorf("a fixed disk of %d bytes has a file of %d", disk.Size, len(b))
			}
			continue
		}
		r, block := imagetest.Open(t, harness(), path), int64(2<<20)
		if v.Options.ClusterSize > 0 {
			block = v.Options.ClusterSize
		}
		for off := int64(0); off < disk.Size; off += block {
			e, err := r.NextExtent(off)
			if err != nil {
				t.Fatal(err)
			}
			if e.Kind == image.Data && (e.Host%4096 != 0 || !bytes.Equal(b[e.Host-512:e.Host], bytes.Repeat([]byte{0xff}, 512))) {
				t.Errorf("%s: the block at %d is at offset %d, behind %x…", v.Name, off, e.Host, b[e.Host-512:e.Host-508])
			}
		}
	}
}
