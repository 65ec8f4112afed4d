package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hyperplane-project/hyperplane/test/proc"
)

// images is a folder of images of one disk, made by qemu-img.
type images struct {
	t    *testing.T
	dir  string
	disk string
}

func newImages(t *testing.T) *images {
	t.Helper()
	m := &images{t: t, dir: t.TempDir()}
	m.disk = m.path("disk.raw")
	makeDisk(t, m.disk, 6<<20+512, 7)
	return m
}

func (m *images) path(name string) string { return filepath.Join(m.dir, name) }

func (m *images) qemu(args ...string) {
	m.t.Helper()
	if _, err := proc.Run(m.t.Context(), nil, "qemu-img", args...); err != nil {
		m.t.Fatal(err)
	}
}

// run runs hyperexport and returns what it says.
func (m *images) run(args ...string) (string, error) {
	m.t.Helper()
	return proc.Run(m.t.Context(), nil, program(m.t, "hyperexport"), args...)
}

func (m *images) must(args ...string) string {
	m.t.Helper()
	out, err := m.run(args...)
	if err != nil {
		m.t.Fatal(err)
	}
	return out
}

// exits runs hyperexport and checks exit code and text.
func (m *images) exits(code int, want string, args ...string) {
	m.t.Helper()
	_, err := m.run(args...)
	if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("exit status %d", code)) || !strings.Contains(err.Error(), want) {
		m.t.Errorf("%q: %v, want exit status %d with %q", args, err, code, want)
	}
}

// TestConvertAllPairs converts from every format into every format and compares with the disk.
func TestConvertAllPairs(t *testing.T) {
	t.Parallel()
	m := newImages(t)
	sources := map[string][]string{
		"raw": {"raw"}, "qcow2": {"qcow2"}, "qcow2-zlib": {"qcow2", "-c"}, "qcow2-zstd": {"qcow2", "-c", "-o", "compression_type=zstd"}, "qcow": {"qcow"},
		"qcow2-extended": {"qcow2", "-o", "extended_l2=on"}, "vmdk-sparse": {"vmdk"}, "vmdk-stream": {"vmdk", "-o", "subformat=streamOptimized"},
		"vmdk-flat": {"vmdk", "-o", "subformat=monolithicFlat"}, "vmdk-split": {"vmdk", "-o", "subformat=twoGbMaxExtentSparse"},
		"vhd": {"vpc", "-o", "force_size=on"}, "vhd-fixed": {"vpc", "-o", "subformat=fixed,force_size=on"}, "vhdx": {"vhdx"}, "vdi": {"vdi"},
	}
	targets := map[string][]string{
		"raw": nil, "qcow2": nil, "qcow2 zlib": {"--compress", "zlib"}, "qcow2 zstd": {"--compress", "zstd"}, "qcow2 extended": {"--subformat", "extended-l2"},
		"vmdk": nil, "vmdk sparse": {"--subformat", "monolithicSparse"}, "vmdk flat": {"--subformat", "monolithicFlat"},
		"vmdk split": {"--subformat", "twoGbMaxExtentSparse"}, "vhd": nil, "vpc fixed": {"--subformat", "fixed"}, "vhdx": nil, "vdi": nil,
		"vdi fixed": {"--subformat", "fixed"},
	}
	for name, args := range sources {
		source := m.path("source-" + name)
		m.qemu(append(append([]string{"convert", "-f", "raw", "-O"}, args...), m.disk, source)...)
	}
	for name := range sources {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for target, flags := range targets {
				format, _, _ := strings.Cut(target, " ")
				out := m.path(name + " to " + target + "." + format)
				in := &images{t, m.dir, m.disk}
				in.must(append([]string{"convert", m.path("source-" + name), out, "--to", format, "--refs", "samedir", "--progress", "none"}, flags...)...)
				in.must("compare", out, m.disk, "--refs", "samedir", "--format-b", "raw", "--format-a", format)
				in.qemu("compare", "-f", qemuName(format), "-F", "raw", out, m.disk)
			}
		})
	}
}

// qemuName is qemu-img's name of a format.
func qemuName(format string) string {
	if format == "vhd" {
		return "vpc"
	}
	return format
}

// TestConvertPipes reads standard input and writes standard output.
func TestConvertPipes(t *testing.T) {
	t.Parallel()
	m := newImages(t)
	m.must("convert", m.disk, m.path("disk.vmdk"), "--to", "vmdk")
	for _, format := range []string{"raw", "vmdk", "qcow2", "vhd", "vhdx", "vdi"} {
		script := fmt.Sprintf("%[1]s convert %[2]s - --to %[3]s >%[4]s.%[3]s", program(t, "hyperexport"), m.disk, format, m.path("piped"))
		if format == "raw" || format == "vmdk" {
			script = fmt.Sprintf("%[1]s convert - - --from vmdk --to %[3]s <%[2]s >%[4]s.%[3]s", program(t, "hyperexport"), m.path("disk.vmdk"), format, m.path("piped"))
		}
		if _, err := proc.Run(t.Context(), nil, "sh", "-c", script); err != nil {
			t.Fatal(err)
		}
		m.must("compare", m.path("piped."+format), m.disk, "--format-a", format, "--format-b", "raw")
	}
	_, err := proc.Run(t.Context(), nil, "sh", "-c", fmt.Sprintf("%s convert %s - --to qcow2 --compress zlib >%s", program(t, "hyperexport"), m.disk, m.path("none")))
	if err == nil || !strings.Contains(err.Error(), "qcow2") {
		t.Errorf("compressed qcow2 to a pipe: %v", err)
	}
}

// TestConvertReferences keeps to one file unless more is allowed, and follows chains and snapshots that other programs made.
func TestConvertReferences(t *testing.T) {
	t.Parallel()
	m := newImages(t)
	base, top, out := m.path("base.qcow2"), m.path("top.qcow2"), m.path("out.raw")
	m.qemu("convert", "-O", "qcow2", m.disk, base)
	m.qemu("snapshot", "-c", "monday", base)
	m.qemu("create", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", top)
	m.exits(4, "base.qcow2", "convert", top, out, "--to", "raw")
	m.must("convert", top, out, "--to", "raw", "--refs", "samedir", "--force")
	m.must("compare", out, m.disk, "--format-a", "raw", "--format-b", "raw")
	m.must("convert", base, out, "--to", "raw", "--snapshot", "monday", "--force")
	m.exits(3, "tuesday", "convert", base, out, "--to", "raw", "--snapshot", "tuesday", "--force")

	var info struct {
		Format      string
		VirtualSize int64 `json:"virtual_size"`
		References  []struct{ Kind, Name, Format string }
		Snapshots   []struct{ Name string }
	}
	if err := json.Unmarshal([]byte(m.must("inspect", top, "-o", "json")), &info); err != nil {
		t.Fatal(err)
	}
	if info.Format != "qcow2" || info.VirtualSize != 6<<20+512 || len(info.References) != 1 || info.References[0].Name != "base.qcow2" {
		t.Errorf("the image is described as %+v", info)
	}
	// The changed disk as the differences to the base.
	makeDisk(t, m.path("changed.raw"), 6<<20+512, 8)
	m.must("convert", m.path("changed.raw"), m.path("delta.qcow2"), "--to", "qcow2", "--backing", base)
	m.qemu("check", m.path("delta.qcow2"))
	m.qemu("compare", "-F", "raw", m.path("delta.qcow2"), m.path("changed.raw"))
	m.exits(2, "folder", "convert", m.disk, filepath.Join(t.TempDir(), "x"), "--to", "qcow2", "--backing", base)
	for _, name := range []string{"pipe", "descriptor.vmdk"} {
		if _, err := os.Stat(m.path(name)); err == nil {
			t.Fatal(name)
		}
	}
	if err := syscall.Mkfifo(m.path("pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	write(t, m.path("descriptor.vmdk"), "# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\ncreateType=\"monolithicFlat\"\nRW 16 FLAT \"pipe\" 0\n")
	if out := m.must("inspect", m.path("descriptor.vmdk")); !strings.Contains(out, "pipe") {
		t.Errorf("the descriptor is described as\n%s", out)
	}
	m.exits(4, "regular", "convert", m.path("descriptor.vmdk"), out, "--to", "raw", "--refs", "samedir", "--force")
}

// TestCheck examines good and damaged images.
func TestCheck(t *testing.T) {
	t.Parallel()
	m := newImages(t)
	for _, format := range []string{"qcow2", "vmdk", "vhd", "vhdx", "vdi"} {
		path := m.path("disk." + format)
		m.must("convert", m.disk, path, "--to", format)
		m.must("check", path)
	}
	f, err := os.OpenFile(m.path("disk.qcow2"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt([]byte{0, 0, 0, 0}, 3<<16) // refcounts of the first clusters
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	m.exits(1, "corruption", "check", m.path("disk.qcow2"))
	m.exits(2, "raw", "check", m.disk)
	m.exits(2, "no such file", "check", m.path("missing"))
	m.exits(1, "first at byte", "compare", m.disk, m.path("disk.vdi"), "--format-a", "raw", "--format-b", "raw")
	m.exits(2, "no such file", "compare", m.disk, m.path("missing"))
	m.exits(2, "--colour", "convert", m.disk, m.path("x"), "--to", "raw", "--colour", "red")
	m.exits(2, "qed", "convert", m.disk, m.path("x"), "--to", "qed")
}

// TestConvertInterrupted interrupts conversions: nothing is left, or with --resume what the next run takes up.
func TestConvertInterrupted(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	source, out := filepath.Join(dir, "big.raw"), filepath.Join(dir, "out", "big.qcow2")
	makeNoise(t, source, 400<<20)
	if err := os.Mkdir(filepath.Dir(out), 0o700); err != nil {
		t.Fatal(err)
	}
	args := []string{"convert", source, out, "--to", "qcow2", "--compress", "zlib", "--level", "9", "--workers", "1", "--progress", "none", "-o", "json"}
	interrupt(t, filepath.Dir(out), args...)
	if left, err := os.ReadDir(filepath.Dir(out)); err != nil || len(left) != 0 {
		t.Fatalf("after an interrupt %v is left: %v", left, err)
	}
	args = append(args, "--resume")
	interrupt(t, filepath.Dir(out), args...)
	if _, err := os.Stat(out); err == nil {
		t.Fatal("a half-written image has the final name")
	}
	said, err := proc.Run(t.Context(), nil, program(t, "hyperexport"), args...)
	if err != nil {
		t.Fatal(err)
	}
	if res := parse[struct {
		ResumedAt int64 `json:"resumed_at"`
	}](t, said); res.ResumedAt == 0 {
		t.Error("the second run began anew")
	}
	if left, err := os.ReadDir(filepath.Dir(out)); err != nil || len(left) != 1 {
		t.Errorf("beside the image %v is left: %v", left, err)
	}
	for _, check := range [][]string{{"check", out}, {"compare", "-f", "raw", "-F", "qcow2", source, out}} {
		if _, err := proc.Run(t.Context(), nil, "qemu-img", check...); err != nil {
			t.Error(err)
		}
	}
}

// interrupt starts hyperexport and interrupts it when the unfinished file has grown.
func interrupt(t *testing.T, dir string, args ...string) {
	t.Helper()
	var said bytes.Buffer
	cmd := exec.CommandContext(t.Context(), program(t, "hyperexport"), args...)
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() (int64, bool) {
		files, _ := os.ReadDir(dir)
		for _, f := range files {
			if st, err := f.Info(); err == nil && !strings.HasSuffix(f.Name(), ".checkpoint") && st.Size() > 20<<20 {
				return st.Size(), true
			}
		}
		return 0, false
	})
	start := time.Now()
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	err := cmd.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 130 {
		t.Fatalf("interrupted it says %v\n%s", err, said.String())
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("it took %s to end", took)
	}
}

// makeNoise writes a file that compresses a little, slowly.
func makeNoise(t *testing.T, path string, size int64) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(3, 4))
	block := make([]byte, 1<<20)
	for off := int64(0); off < size; off += int64(len(block)) {
		for i := range block {
			block[i] = byte(r.Uint32() % 40)
		}
		if _, err := f.WriteAt(block, off); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}
