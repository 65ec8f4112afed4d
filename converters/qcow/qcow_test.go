package qcow_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/image/imagetest"
	"github.com/hyperplane-project/hyperplane/converters/qcow"
	"github.com/hyperplane-project/hyperplane/internal/procexec"
)

func harness() imagetest.Harness {
	return imagetest.Harness{
		Format: qcow.Format(), QemuFormat: "qcow", Strict: true,
		QemuCreate: map[string][]string{"plain": nil},
	}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	imagetest.Run(t, harness())
}

// Offsets in an image of good: header, L1, L2, clusters.
const (
	cluster = 4096
	l1At    = 48
	l2At    = cluster
)

func disk() *imagetest.Disk {
	return &imagetest.Disk{Size: 40 * cluster, Pieces: []imagetest.Piece{
		{Off: 0, Len: 3 * cluster, Content: imagetest.Text}, {Off: 9*cluster + 5, Len: 100, Content: imagetest.Text},
	}}
}

// good makes an image of disk with qemu-img.
func good(t *testing.T, args ...string) []byte {
	t.Helper()
	b, err := os.ReadFile(create(t, disk(), args...))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// create makes an image with qemu-img. Version 7.2 writes compressed ones to their end, and fails then: what it wrote it must find equal.
func create(t *testing.T, disk *imagetest.Disk, args ...string) string {
	t.Helper()
	raw, path := imagetest.Raw(t, disk), filepath.Join(t.TempDir(), "disk.qcow")
	args = append(append([]string{"convert", "-f", "raw", "-O", "qcow"}, args...), raw, path)
	_, _ = procexec.Runner{}.Run(t.Context(), procexec.Command{Program: "qemu-img", Args: args})
	imagetest.Qemu(t, "compare", "-f", "raw", "-F", "qcow", raw, path)
	return path
}

func TestReadsCompressed(t *testing.T) {
	t.Parallel()
	for _, d := range []*imagetest.Disk{
		imagetest.RandomDisk(43, 4_000_256), {Size: 70_144, Pieces: []imagetest.Piece{{Off: 0, Len: 70_144, Content: imagetest.Text}}},
	} {
		imagetest.Same(t, d, imagetest.Open(t, harness(), create(t, d, "-c")))
	}
}

type patch = func([]byte) []byte

func put(at int, value ...byte) patch {
	return func(b []byte) []byte { copy(b[at:], value); return b }
}

func put64(at int, value uint64) patch { return put(at, binary.BigEndian.AppendUint64(nil, value)...) }

func all(patches ...patch) patch {
	return func(b []byte) []byte {
		for _, p := range patches {
			b = p(b)
		}
		return b
	}
}

func damage(p patch, want error) imagetest.Damage { return imagetest.Damage{Patch: p, Want: want} }

func backing(name string) patch {
	return all(put64(8, 512), put(18, byte(len(name)>>8), byte(len(name))), put(512, []byte(name)...))
}

func TestDamaged(t *testing.T) {
	t.Parallel()
	imagetest.Damages(t, harness(), good(t), map[string]imagetest.Damage{
		"untouched":          damage(all(), nil),
		"version 2":          damage(put(7, 2), image.ErrWrongFormat),
		"cut in the version": damage(func(b []byte) []byte { return b[:7] }, image.ErrWrongFormat),
		"cut in the header":  damage(func(b []byte) []byte { return b[:47] }, image.ErrTruncated),
		"cut in the L1":      damage(func(b []byte) []byte { return b[:50] }, image.ErrTruncated),
		"cluster bits 0":     damage(put(32, 0), image.ErrCorrupt),
		"cluster bits 8":     damage(put(32, 8), image.ErrCorrupt),
		"cluster bits 17":    damage(put(32, 17), image.ErrCorrupt),
		"cluster bits 255":   damage(put(32, 255), image.ErrCorrupt),
		"L2 bits 5":          damage(put(33, 5), image.ErrCorrupt),
		"L2 bits 14":         damage(put(33, 14), image.ErrCorrupt),
		"AES":                damage(put(39, 1), image.ErrEncrypted),
		"other encryption":   damage(put(36, 1), image.ErrUnsupported),
		"size 2^64-1":        damage(put64(24, 1<<64-1), image.ErrLimit),
		"size 2^62":          damage(put64(24, 1<<62), image.ErrLimit),
		"size 2^46":          damage(put64(24, 1<<46), image.ErrTruncated),
		"size 0":             damage(put64(24, 0), nil),
		"L1 past the end":    damage(put64(40, 1<<40), image.ErrTruncated),
		"L1 at 2^64-8":       damage(put64(40, 1<<64-8), image.ErrTruncated),
		"L2 past the end":    damage(put64(l1At, 1<<40), image.ErrTruncated),
		"L2 at 2^64-4096":    damage(put64(l1At, 1<<64-4096), image.ErrTruncated),
		"shared L2 tables": damage(all(put64(24, 50<<21), func(b []byte) []byte {
			for i := range 50 {
				b = put64(l1At+8*i, l2At)(b)
			}
			return b
		}), image.ErrCorrupt),
		"cluster at no sector":      damage(put64(l2At, 3*cluster+8), image.ErrCorrupt),
		"cluster past the end":      damage(put64(l2At, 1<<40), image.ErrTruncated),
		"compressed past the end":   damage(put64(l2At, 1<<63|1<<51|1<<40), image.ErrTruncated),
		"compressed to no bytes":    damage(put64(l2At, 1<<63|2*cluster), image.ErrTruncated),
		"compressed garbage":        damage(put64(l2At, 1<<63|1<<51|2*cluster), image.ErrCorrupt),
		"backing file":              damage(backing("/etc/passwd"), image.ErrReference),
		"backing file of json":      damage(backing(`json:{"driver":"nbd"}`), image.ErrReference),
		"backing name of no bytes":  damage(put64(8, 512), image.ErrCorrupt),
		"backing name too long":     damage(all(backing("x"), put(16, 1)), image.ErrCorrupt),
		"backing name past the end": damage(all(backing("x"), put64(8, 1<<40)), image.ErrTruncated),
		"backing name at 2^64-1":    damage(all(backing("x"), put64(8, 1<<64-1)), image.ErrTruncated),
	})
}

func TestDamagedCompression(t *testing.T) {
	t.Parallel()
	b := good(t, "-c")
	at := int(binary.BigEndian.Uint64(b[l2At:]) & (1<<51 - 1))
	imagetest.Damages(t, harness(), b, map[string]imagetest.Damage{
		"untouched": damage(all(), nil),
		"garbage":   damage(put(at, 0xff, 0xff, 0xff, 0xff), image.ErrCorrupt),
		"one byte":  damage(put(at, 0x4b, 4, 0), image.ErrCorrupt),
	})
}

// TestBacking opens an image with a backing file whose format the caller knows.
func TestBacking(t *testing.T) {
	t.Parallel()
	b := all(backing("base"), put64(l2At, 0))(good(t))
	open := func(o image.OpenOptions) (image.Reader, error) {
		return qcow.Open(image.NewFile(bytes.NewReader(b), int64(len(b)), "x"), o)
	}
	base := &imagetest.Disk{Size: 20 * cluster, Pieces: []imagetest.Piece{{Off: 0, Len: 20 * cluster, Content: imagetest.Text}}}
	r, err := open(image.OpenOptions{Refs: known{base}})
	if err != nil {
		t.Fatal(err)
	}
	imagetest.Same(t, &imagetest.Disk{Size: 40 * cluster, Pieces: []imagetest.Piece{
		{Off: 0, Len: 9 * cluster, Content: imagetest.Text},
		{Off: 9*cluster + 5, Len: 100, Content: imagetest.Text},
		{Off: 10 * cluster, Len: 10 * cluster, Content: imagetest.Text},
	}}, r)
	if r, err = open(image.OpenOptions{InfoOnly: true}); err != nil || len(r.Info().References) != 1 || r.Info().References[0].Name != "base" {
		t.Errorf("opened for its description: %v", err)
	}
	if _, err = open(image.OpenOptions{}); !errors.Is(err, image.ErrReference) {
		t.Errorf("opened alone: %v, want ErrReference", err)
	}
}

// known opens any image as the one it holds.
type known struct{ image.Reader }

func (k known) File(image.Reference) (image.File, error) { return nil, image.ErrReference }

func (k known) Image(ref image.Reference, format string) (image.Reader, error) {
	if format != "" {
		return nil, image.Corruptf("the image states format %q of its %s", format, ref.Kind)
	}
	return k.Reader, nil
}

func FuzzOpen(f *testing.F) {
	b := make([]byte, 4096)
	b = all(put(0, []byte("QFI\xfb\x00\x00\x00\x01")...), put64(24, 40*512), put(32, 9, 6), put64(40, 48), put64(48, 512), put64(512, 1024),
		put64(520, 1<<63|5<<54|1536), put(1536, 0x4b, 4, 0))(b)
	f.Add(b)
	f.Add(backing("base")(bytes.Clone(b)))
	imagetest.FuzzReader(f, harness())
}
