// Package guest makes the tiny Linux guest that tests and the demo boot, and keeps it in the user's cache.
//
// The guest says GUEST lines on its serial port: "GUEST BOOT marker=… firmware=… cpus=… memory-kib=…" when its programs start,
// "GUEST IP NIC ADDRESS/LENGTH mac=… router=… dns=… name=…" for each lease, "GUEST READY marker=…" when it listens, and
// "GUEST POWEROFF" when its power button was pressed. It answers a line "echo X" with "ECHO:X" and runs other lines as commands
// ("STATUS:n" follows). It sends back what arrives on TCP port 7. It needs 96 MiB, or 256 MiB with UEFI.
package guest

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/hyperplane-project/hyperplane/internal/procexec"
)

// Marker is the word by which a guest of this package is known, unless Build was given another.
const Marker = "hyperplane-guest"

//go:embed mkguest.sh rootfs
var source embed.FS

// CommandLine is what the kernel needs when it is booted directly.
const CommandLine = "console=ttyS0 quiet loglevel=1 panic=1 no_timer_check"

// Files are a guest's parts. They are shared: copy a disk before a machine writes to it.
type Files struct {
	// QCOW2 and Raw are the same bootable disk in two formats.
	QCOW2, Raw string
	// Kernel and Initrd boot without a disk.
	Kernel, Initrd string
}

// Build makes a guest that says marker, with its files in dir. The kernel is downloaded once and kept in the user's cache.
func Build(ctx context.Context, dir, marker string) (Files, error) {
	cache, err := cacheDir()
	if err != nil {
		return Files{}, err
	}
	scripts, err := os.MkdirTemp("", "mkguest-")
	if err != nil {
		return Files{}, err
	}
	defer func() { _ = os.RemoveAll(scripts) }()
	if err := os.CopyFS(scripts, source); err != nil {
		return Files{}, err
	}
	_, err = procexec.Runner{}.Run(ctx, procexec.Command{
		Program: "bash", Args: []string{filepath.Join(scripts, "mkguest.sh"), dir},
		Env: []string{"MARKER=" + marker, "CACHE=" + filepath.Join(cache, "kernel")},
	})
	if err != nil {
		return Files{}, fmt.Errorf("make the test guest: %w", err)
	}
	return filesIn(dir), nil
}

// Cached returns the guest with the usual Marker, and makes it if this version of it is not in the user's cache.
func Cached(ctx context.Context) (Files, error) {
	cache, err := cacheDir()
	if err != nil {
		return Files{}, err
	}
	version, err := sourceHash()
	if err != nil {
		return Files{}, err
	}
	final := filepath.Join(cache, "guest-"+version)
	if _, err := os.Stat(final); err == nil {
		return filesIn(final), nil
	}
	// Several test programs may do this at once: each builds its own, and the first to be ready is kept.
	dir, err := os.MkdirTemp(cache, "build-")
	if err != nil {
		return Files{}, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if _, err := Build(ctx, dir, Marker); err != nil {
		return Files{}, err
	}
	if err := os.Rename(dir, final); err != nil && !errors.Is(err, fs.ErrExist) {
		return Files{}, err
	}
	return filesIn(final), nil
}

// Image returns the path of a fresh qcow2 disk with the guest, which lives until the test ends.
func Image(tb testing.TB) string {
	tb.Helper()
	files := Cache(tb)
	disk := filepath.Join(tb.TempDir(), "guest.qcow2")
	if err := copyFile(disk, files.QCOW2); err != nil {
		tb.Fatal(err)
	}
	return disk
}

// Cache is Cached for tests.
func Cache(tb testing.TB) Files {
	tb.Helper()
	files, err := Cached(tb.Context())
	if err != nil {
		tb.Fatalf("%v (scripts/install-deps.sh installs what it needs)", err)
	}
	return files
}

func filesIn(dir string) Files {
	return Files{
		QCOW2: filepath.Join(dir, "guest.qcow2"), Raw: filepath.Join(dir, "guest.raw"),
		Kernel: filepath.Join(dir, "vmlinuz"), Initrd: filepath.Join(dir, "initrd.gz"),
	}
}

func cacheDir() (string, error) {
	base, err := os.UserCacheDir()
	if err != nil {
		base = ".cache"
	}
	dir := filepath.Join(base, "hyperplane")
	return dir, os.MkdirAll(dir, 0o755)
}

// sourceHash names the version of the scripts the guest is made from.
func sourceHash() (string, error) {
	sum := sha256.New()
	err := fs.WalkDir(source, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := source.ReadFile(path)
		_, _ = fmt.Fprintf(sum, "%s %d\n", path, len(text))
		_, _ = sum.Write(text)
		return err
	})
	return hex.EncodeToString(sum.Sum(nil))[:12], err
}

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
