package vhd_test

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/image/imagetest"
	"github.com/hyperplane-project/hyperplane/converters/vhd"
)

func openBytes(t *testing.T, b []byte, o image.OpenOptions) (image.Reader, error) {
	t.Helper()
	return vhd.Open(image.NewFile(bytes.NewReader(b), int64(len(b)), "image"), o)
}

func TestSizeRule(t *testing.T) {
	t.Parallel()
	const (
		small = 1<<16 | 2<<8 | 4 // 4096 bytes
		large = 9<<16 | 2<<8 | 4
		most  = 65535<<16 | 16<<8 | 255
		size  = 4 * block
	)
	for _, c := range []struct {
		creator string
		chs     uint32
		rule    image.SizeRule
		want    int64
	}{
		{"win ", small, "", size},
		{"qem2", small, "", size},
		{"d2v\x00", small, "", size},
		{"xmnt", small, "", size},
		{"vpc ", small, "", 4096},
		{"qemu", small, "", 4096},
		{"vpc ", large, "", size}, // the geometry is more than there is
		{"qemu", most, "", size},  // the geometry says nothing
		{"qemu", 0, "", size},
		{"qemu", small, image.SizeByCurrent, size},
		{"win ", small, image.SizeByGeometry, 4096},
	} {
		d := base()
		d.creator, d.chs = c.creator, c.chs
		r, err := openBytes(t, d.bytes(), image.OpenOptions{SizeRule: c.rule})
		if err != nil {
			t.Errorf("%q %#x %q: %v", c.creator, c.chs, c.rule, err)
			continue
		}
		if got := r.Info().VirtualSize; got != c.want {
			t.Errorf("creator %q, geometry %#x, rule %q: size is %d, want %d", c.creator, c.chs, c.rule, got, c.want)
		}
	}
	if _, err := openBytes(t, base().bytes(), image.OpenOptions{SizeRule: "guess"}); err == nil {
		t.Error("an unknown rule is no error")
	}
}

// TestFixedTooShort reads a fixed disk whose footer states more than there is in front of it.
func TestFixedTooShort(t *testing.T) {
	t.Parallel()
	d := disk{size: 10_000, kind: 2, creator: "xmnt"}
	b := append(bytes.Repeat([]byte{'x'}, 2048), d.footer()...)
	for _, cut := range []int{0, 1} { // the footer of old files has 511 bytes
		r, err := openBytes(t, b[:len(b)-cut], image.OpenOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if got := content(t, r); got != "xxxx" || len(r.Info().Warnings) != 1 {
			t.Errorf("content is %q, warnings are %q", got, r.Info().Warnings)
		}
	}
}

// TestFixedContentLikeFooter reads a fixed disk whose own first sector is the footer of a dynamic disk: the end of the file counts.
func TestFixedContentLikeFooter(t *testing.T) {
	t.Parallel()
	inner := base().bytes()
	r, err := openBytes(t, append(inner, disk{size: uint64(len(inner)), kind: 2}.footer()...), image.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if info := r.Info(); info.Variant != "fixed" || info.VirtualSize != int64(len(inner)) || len(info.Warnings) != 0 {
		t.Errorf("info is %+v", info)
	}
}

// TestForce opens an image none of whose checksums is right.
func TestForce(t *testing.T) {
	t.Parallel()
	b := both(put32(64, 0), fromEnd(put32(64, 0)), put32(headAt+36, 0))(base().bytes())
	if _, err := openBytes(t, b, image.OpenOptions{}); err == nil || !strings.Contains(err.Error(), "force") {
		t.Errorf("error is %v, want one that tells of force", err)
	}
	r, err := openBytes(t, b, image.OpenOptions{Force: true})
	if err != nil {
		t.Fatal(err)
	}
	if got := content(t, r); got != "AAAAAAAABBBBBBBB................" || len(r.Info().Warnings) != 2 {
		t.Errorf("content is %s, warnings are %q", got, r.Info().Warnings)
	}
}

func TestRefusedOptions(t *testing.T) {
	t.Parallel()
	for _, o := range []image.OpenOptions{{Snapshot: "1"}, {Member: "disk"}} {
		if _, err := openBytes(t, base().bytes(), o); err == nil {
			t.Errorf("%+v is no error", o)
		}
	}
	for _, o := range []image.CreateOptions{
		{Variant: "differencing"},
		{ClusterSize: 1 << 20},
		{ClusterSize: -1},
		{Variant: "fixed", ClusterSize: 2 << 20},
		{Compression: "zlib"},
		{VirtualSize: 2040<<30 + 1},
		{VirtualSize: -1},
		{Backing: &image.Backing{Name: "x", Format: "vhd"}},
	} {
		if _, err := vhd.Create(nil, o); err == nil {
			t.Errorf("%+v is no error", o)
		}
	}
}

// TestQemuSizes has qemu-img say how large disks are that are written here. It must not go by the geometry.
func TestQemuSizes(t *testing.T) {
	t.Parallel()
	for _, size := range []int64{512, 1 << 20, 67_112_448, 1<<30 + 512, 127<<30 + 512, 140 << 30, 2040 << 30} {
		for _, variant := range []string{"dynamic", "fixed"} {
			path := imagetest.Write(t, harness(), imagetest.Variant{Options: image.CreateOptions{Variant: variant}}, &imagetest.Disk{Size: size})
			if got := imagetest.Qemu(t, "info", "-f", "vpc", "--output=json", path); !strings.Contains(got, fmt.Sprintf(`"virtual-size": %d,`, size)) {
				t.Errorf("%s disk of %d bytes: qemu-img says %s", variant, size, got)
			}
		}
	}
}

// TestQemuGeometry reads disks of qemu-img, which it rounds up to a geometry unless told otherwise: the sizes must agree.
func TestQemuGeometry(t *testing.T) {
	t.Parallel()
	for _, size := range []string{"1000448", "67112448", "100G", "200G", "2000G"} {
		for _, options := range []string{"subformat=dynamic", "subformat=fixed", "force_size=on"} {
			path := filepath.Join(t.TempDir(), "disk.vhd")
			imagetest.Qemu(t, "create", "-q", "-f", "vpc", "-o", options, path, size)
			r := imagetest.Open(t, harness(), path)
			want := fmt.Sprintf(`"virtual-size": %d,`, r.Info().VirtualSize)
			if got := imagetest.Qemu(t, "info", "-f", "vpc", "--output=json", path); !strings.Contains(got, want) {
				t.Errorf("%s %s: %d bytes; qemu-img says %s", size, options, r.Info().VirtualSize, got)
			}
		}
	}
}
