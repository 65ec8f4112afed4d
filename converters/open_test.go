package converters_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hyperplane-project/hyperplane/converters"
	"github.com/hyperplane-project/hyperplane/converters/all"
	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/image/imagetest"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

func TestDetect(t *testing.T) {
	t.Parallel()
	disk := imagetest.RandomDisk(4, 1_000_448)
	for name, target := range targets() {
		path, _ := convert(t, converters.Source{Reader: disk}, target, converters.Options{})
		info, err := all.Formats().Inspect(path, converters.OpenOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if info.Format != target.Format || info.VirtualSize != disk.Size {
			t.Errorf("%s is detected as %s of %d bytes", name, info.Format, info.VirtualSize)
		}
	}
}

// TestStatedFormat checks that the caller's word counts: a raw disk whose guest wrote a qcow2 header is raw if the caller says so.
func TestStatedFormat(t *testing.T) {
	t.Parallel()
	disk := imagetest.RandomDisk(4, 1_000_448)
	path, _ := convert(t, converters.Source{Reader: disk}, converters.Target{Format: "qcow2"}, converters.Options{})
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	for format, want := range map[string]fault.Code{"raw": fault.OK, "qcow2": fault.OK, "vmdk": fault.InvalidArgument, "vhd": fault.InvalidArgument, "x": fault.InvalidArgument} {
		r, err := all.Formats().Open(t.Context(), path, converters.OpenOptions{Format: format})
		if fault.CodeOf(err) != want {
			t.Errorf("as %s: %v, want code %d", format, err, want)
			continue
		}
		if err != nil {
			continue
		}
		if format == "raw" && r.Info().VirtualSize != st.Size() {
			t.Errorf("as raw it has %d bytes, want %d", r.Info().VirtualSize, st.Size())
		}
		_ = r.Close()
	}
}

// TestForeign checks that files with the magic of a format, read here or not, are never taken for raw.
func TestForeign(t *testing.T) {
	t.Parallel()
	at := func(size, off int, magic string) string {
		b := make([]byte, size)
		copy(b[off:], magic)
		return string(b)
	}
	for name, content := range map[string]string{
		"vhdx":        at(1<<20, 0, "vhdxfile"),
		"dynamic vhd": at(4096, 0, "conectix"),
		"fixed vhd":   at(1<<20+512, 1<<20, "conectix"),
		"old vhd":     at(1<<20+511, 1<<20, "conectix"),
		"vdi":         at(4096, 64, "\x7f\x10\xda\xbe"),
		"qed":         at(4096, 0, "QED\x00"),
		"gzip":        at(4096, 0, "\x1f\x8b\x08"),
		"ova":         at(10240, 257, "ustar"),
	} {
		path := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := all.Formats().Inspect(path, converters.OpenOptions{}); !imagetest.Refused(err) {
			t.Errorf("%s: %v, want a refusal", name, err)
		}
		r, err := all.Formats().Open(t.Context(), path, converters.OpenOptions{Format: "raw"})
		if err != nil {
			t.Errorf("%s as raw: %v", name, err)
			continue
		}
		_ = r.Close()
	}
}

// TestOpenRefuses checks that only files and block devices are opened, and that a pipe does not block.
func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]fault.Code{
		dir: fault.InvalidArgument, pipe: fault.InvalidArgument, "/dev/zero": fault.InvalidArgument, filepath.Join(dir, "none"): fault.NotFound,
	} {
		_, err := all.Formats().Open(t.Context(), path, converters.OpenOptions{})
		if !fault.Is(err, want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v, want code %d and the path", path, err, want)
		}
	}
}

// TestInspectOpensOneFile checks that what an image refers to is not touched: the reference is a pipe, which would block.
func TestInspectOpensOneFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := unix.Mkfifo(filepath.Join(dir, "secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	flat := filepath.Join(dir, "flat.vmdk")
	text := "# Disk DescriptorFile\ncreateType=\"monolithicFlat\"\nRW 2048 FLAT \"secret\" 0\n"
	if err := os.WriteFile(flat, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	overlay := filepath.Join(dir, "overlay.qcow2")
	imagetest.Qemu(t, "create", "-q", "-u", "-f", "qcow2", "-F", "raw", "-b", "secret", overlay, "1M")
	for _, path := range []string{flat, overlay} {
		info, err := all.Formats().Inspect(path, converters.OpenOptions{})
		if err != nil || len(info.References) != 1 || info.References[0].Name != "secret" {
			t.Errorf("%s: is described as %+v, %v", path, info, err)
		}
		_, err = all.Formats().Open(t.Context(), path, converters.OpenOptions{})
		if !errors.Is(err, image.ErrReference) || !strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v, want ErrReference that names the file", path, err)
		}
	}
}
