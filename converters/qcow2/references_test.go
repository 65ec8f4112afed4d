package qcow2_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/image/imagetest"
	"github.com/hyperplane-project/hyperplane/converters/internal/engine"
	"github.com/hyperplane-project/hyperplane/converters/internal/refs"
	"github.com/hyperplane-project/hyperplane/converters/qcow2"
	"github.com/hyperplane-project/hyperplane/converters/raw"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/procexec"
)

// openPath opens the image at path; files of its folder may be opened as qcow2 and raw images.
func openPath(t *testing.T, path string, o image.OpenOptions) (image.Reader, error) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	file, err := image.NewLocalFile(f)
	if err != nil {
		t.Fatal(err)
	}
	folder, err := refs.SameFolder(file, func(f image.File, format string, o image.OpenOptions) (image.Reader, error) {
		switch format {
		case "qcow2":
			return qcow2.Open(f, o)
		case "raw":
			return raw.Format().Open(f, o)
		}
		return nil, fault.New(fault.InvalidArgument, "format %s", format)
	})
	if err != nil {
		t.Fatal(err)
	}
	if !o.InfoOnly {
		o.Refs = folder
	}
	r, err := qcow2.Open(file, o)
	if err := folder.Close(); err != nil {
		t.Fatal(err)
	}
	if err != nil {
		_ = file.Close()
		return nil, err
	}
	t.Cleanup(func() { _ = r.Close() })
	return r, nil
}

func mustOpen(t *testing.T, path string, o image.OpenOptions) image.Reader {
	t.Helper()
	r, err := openPath(t, path, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// qemu runs qemu-img in a folder.
func qemu(t *testing.T, dir string, args ...string) {
	t.Helper()
	res, err := procexec.Runner{}.Run(t.Context(), procexec.Command{Program: "qemu-img", Args: args, Dir: dir})
	if err != nil {
		t.Fatalf("qemu-img %q: %v\n%s", args, err, res.Stdout)
	}
}

// place writes a disk as raw file into a folder.
func place(t *testing.T, dir, name string, disk image.Reader) {
	t.Helper()
	if err := os.Rename(imagetest.Raw(t, disk), filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
}

// base and changed differ in content, in zeros over content, in content over zeros, and in size.
func base() *imagetest.Disk {
	return &imagetest.Disk{Size: 3 << 20, Pieces: []imagetest.Piece{
		{Off: 0, Len: 1 << 20, Content: imagetest.Text}, {Off: 2 << 20, Len: 1 << 20, Content: imagetest.Random},
	}}
}

func changed() *imagetest.Disk {
	return &imagetest.Disk{Size: 4 << 20, Pieces: []imagetest.Piece{
		{Off: 0, Len: 500_000, Content: imagetest.Text},
		{Off: 600_000, Len: 8192, Content: imagetest.Random},
		{Off: 1<<20 + 77, Len: 300_000, Content: imagetest.Text},
		{Off: 2 << 20, Len: 1 << 20, Content: imagetest.Random},
		{Off: 3<<20 + 4096, Len: 100, Content: imagetest.Text},
	}}
}

func TestReadsQemuBacking(t *testing.T) {
	t.Parallel()
	for name, options := range map[string][]string{
		"v3": nil, "compressed": {"-c"}, "extended L2": {"-o", "extended_l2=on"}, "v2": {"-o", "compat=0.10"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			place(t, dir, "base.raw", base())
			place(t, dir, "changed.raw", changed())
			qemu(t, dir, append(append([]string{"convert", "-f", "raw", "-O", "qcow2"}, options...), "-B", "base.raw", "-F", "raw", "changed.raw", "disk.qcow2")...)
			r := mustOpen(t, filepath.Join(dir, "disk.qcow2"), image.OpenOptions{})
			imagetest.Same(t, changed(), r)
			want := image.Reference{Kind: "backing", Name: "base.raw", Format: "raw"}
			if got := r.Info().References; len(got) != 1 || got[0] != want {
				t.Errorf("references are %+v, want %+v", got, want)
			}
		})
	}
}

// TestWritesBacking writes only what differs from the backing file, and has it read here and by QEMU.
func TestWritesBacking(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]image.CreateOptions{
		"plain": {}, "zlib": {Compression: "zlib"}, "zstd": {Compression: "zstd"}, "extended L2": {Variant: "extended-l2"},
		"extended L2 zlib": {Variant: "extended-l2", Compression: "zlib"}, "4 KiB clusters": {ClusterSize: 4096},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			place(t, dir, "base.raw", base())
			path := filepath.Join(dir, "disk.qcow2")
			o.Backing = &image.Backing{Name: "base.raw", Format: "raw"}
			writeDelta(t, path, o)
			imagetest.Same(t, changed(), mustOpen(t, path, image.OpenOptions{}))
			qemu(t, dir, "check", "disk.qcow2")
			qemu(t, dir, "compare", "-f", "raw", "-F", "qcow2", imagetest.Raw(t, changed()), "disk.qcow2")
		})
	}
}

func writeDelta(t *testing.T, path string, o image.CreateOptions) {
	t.Helper()
	out, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = out.Close() }()
	o.VirtualSize = changed().Size
	w, err := qcow2.Create(out, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := engine.Copy(t.Context(), changed(), w, out, engine.Options{Workers: 2, Base: base()}); err != nil {
		t.Fatal(err)
	}
	if err := w.Finish(); err != nil {
		t.Fatal(err)
	}
}

// overlayOn makes an image of 10 clusters whose backing file has the given name and format.
func overlayOn(t *testing.T, name, format string) []byte {
	t.Helper()
	b := good(t, "")
	header := binaryBacking(name, format)
	return both(func(b []byte) []byte { copy(b[112:], header); return b }, put64(8, uint64(112+len(header)-len(name))), put32(16, uint32(len(name))))(b)
}

// binaryBacking returns the header extension of the format, the end of the extensions, and the name.
func binaryBacking(name, format string) []byte {
	b := []byte{0xe2, 0x79, 0x2a, 0xca, 0, 0, 0, byte(len(format))}
	b = append(b, format...)
	b = append(b, make([]byte, -len(format)&7+8)...)
	return append(b, name...)
}

func TestBackingRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		backing, format string
		want            error
	}{
		"missing":        {"none", "raw", image.ErrReference},
		"itself":         {"disk.qcow2", "qcow2", image.ErrReference},
		"no format":      {"base", "", image.ErrReference},
		"unknown format": {"base", "luks", image.ErrUnsupported},
		"absolute":       {"/etc/passwd", "raw", image.ErrReference},
		"outside":        {"../base", "raw", image.ErrReference},
		"json":           {`json:{"driver":"raw","file.filename":"base"}`, "raw", image.ErrReference},
		"protocol":       {"nbd:localhost:10809", "raw", image.ErrReference},
		"file protocol":  {"file:base", "raw", image.ErrReference},
		"link":           {"link", "raw", image.ErrReference},
		"folder":         {".", "raw", image.ErrReference},
		"not qcow2":      {"base", "qcow2", image.ErrWrongFormat},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			path := filepath.Join(dir, "disk.qcow2")
			place(t, dir, "base", base())
			if err := errors.Join(os.Symlink("/etc/passwd", filepath.Join(dir, "link")), os.WriteFile(path, overlayOn(t, c.backing, c.format), 0o600)); err != nil {
				t.Fatal(err)
			}
			if _, err := openPath(t, path, image.OpenOptions{}); !errors.Is(err, c.want) {
				t.Errorf("error is %v, want %v", err, c.want)
			}
			r := mustOpen(t, path, image.OpenOptions{InfoOnly: true})
			if got := r.Info().References; len(got) != 1 || got[0].Name != c.backing {
				t.Errorf("opened for its description, the references are %+v", got)
			}
		})
	}
}

// TestBackingRaw reads a backing file that is declared as raw and looks like qcow2: it is raw.
func TestBackingRaw(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "disk.qcow2")
	inner := good(t, "")
	outer := put64(l2At, 0)(overlayOn(t, "inner", "raw"))
	if err := errors.Join(os.WriteFile(path, outer, 0o600), os.WriteFile(filepath.Join(dir, "inner"), inner, 0o600)); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, cluster)
	if _, err := mustOpen(t, path, image.OpenOptions{}).ReadAt(got, 0); err != nil || !bytes.Equal(got, inner[:cluster]) {
		t.Errorf("a raw backing file is not read as it is: %v", err)
	}
}

func TestChain(t *testing.T) {
	t.Parallel()
	for depth, want := range map[int]error{2: nil, refs.MaxDepth: nil, refs.MaxDepth + 1: image.ErrLimit} {
		dir := t.TempDir()
		for i := range depth {
			b := put64(l2At, 0)(overlayOn(t, fmt.Sprintf("%d.qcow2", i+1), "qcow2"))
			if i == depth-1 {
				b = good(t, "")
			}
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%d.qcow2", i)), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		r, err := openPath(t, filepath.Join(dir, "0.qcow2"), image.OpenOptions{})
		if !errors.Is(err, want) {
			t.Errorf("a chain of %d: %v, want %v", depth, err, want)
		}
		if err == nil {
			imagetest.Same(t, goodDisk(), r)
		}
	}
}

// TestLoop opens images that are each other's backing file.
func TestLoop(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, other := range map[string]string{"a": "b", "b": "a"} {
		if err := os.WriteFile(filepath.Join(dir, name), overlayOn(t, other, "qcow2"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := openPath(t, filepath.Join(dir, "a"), image.OpenOptions{}); !errors.Is(err, image.ErrReference) {
		t.Errorf("error is %v, want ErrReference", err)
	}
}

func TestCreateRefuses(t *testing.T) {
	t.Parallel()
	long := string(bytes.Repeat([]byte("x"), 1000))
	for name, o := range map[string]image.CreateOptions{
		"variant":               {Variant: "v2"},
		"compression":           {Compression: "lzma"},
		"cluster of no power":   {ClusterSize: 5000},
		"small extended":        {Variant: "extended-l2", ClusterSize: 8192},
		"window without zlib":   {Window: 4096},
		"window of zstd":        {Window: 4096, Compression: "zstd"},
		"window of no power":    {Window: 5000, Compression: "zlib"},
		"window and level":      {Window: 4096, Compression: "zlib", Level: 9},
		"backing, no format":    {Backing: &image.Backing{Name: "base"}},
		"backing, no name":      {Backing: &image.Backing{Format: "raw"}},
		"backing, QEMU's word":  {Backing: &image.Backing{Name: "base", Format: "vpc"}},
		"backing, long name":    {Backing: &image.Backing{Name: long + long, Format: "raw"}},
		"backing, no room":      {Backing: &image.Backing{Name: long, Format: "raw"}, ClusterSize: 512},
		"disk too large for L1": {VirtualSize: 1 << 40, ClusterSize: 512},
	} {
		if _, err := qcow2.Create(nil, o); !errors.Is(err, image.ErrUnsupported) && !errors.Is(err, image.ErrLimit) && !fault.Is(err, fault.InvalidArgument) {
			t.Errorf("%s: %v, want a refusal", name, err)
		}
	}
}
