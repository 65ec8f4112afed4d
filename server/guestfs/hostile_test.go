package guestfs_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/guestfs"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

func patched(t *testing.T, d hypervisor.Disk, at int64, b []byte) {
	t.Helper()
	f, err := os.OpenFile(d.File, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
}

// every calls all operations on a disk and hands their errors to check.
func every(t *testing.T, d hypervisor.Disk, check func(what string, err error)) {
	t.Helper()
	s, good := service(), floppy(t, tree{"x": "y"}.write(t), 4*mib)
	check("scan", s.Scan(t.Context(), guestfs.Root{Disk: d}, nil, ignore))
	check("overlay", s.Overlay(t.Context(), d, nil, map[string][]byte{"/x": nil}))
	check("patch", s.Patch(t.Context(), guestfs.Root{Disk: d}, good, nil, new(bytes.Buffer)))
	check("patch from it", s.Patch(t.Context(), guestfs.Root{Disk: good}, d, nil, new(bytes.Buffer)))
	check("shrink", s.ShrinkFilesystem(t.Context(), d, 4*mib))
	nothingLeft(t, d)
	nothingLeft(t, good)
}

func TestDamagedDisks(t *testing.T) {
	t.Parallel()
	little := binary.LittleEndian
	for name, damage := range map[string]func(t *testing.T) hypervisor.Disk{
		"nothing": func(t *testing.T) hypervisor.Disk {
			t.Helper()
			d := hypervisor.Disk{File: filepath.Join(t.TempDir(), "disk")}
			if err := os.WriteFile(d.File, make([]byte, 8*mib), 0o600); err != nil {
				t.Fatal(err)
			}
			return d
		},
		"no bytes": func(t *testing.T) hypervisor.Disk {
			t.Helper()
			d := hypervisor.Disk{File: filepath.Join(t.TempDir(), "disk")}
			if err := os.WriteFile(d.File, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			return d
		},
		"a partition outside of the disk": func(t *testing.T) hypervisor.Disk {
			t.Helper()
			d := partitioned(t, "mbr", 16*mib, floppy(t, tree{}.write(t), 8*mib))
			patched(t, d, 446+12, little.AppendUint32(nil, 1<<31))
			return d
		},
		"a superblock of nonsense": func(t *testing.T) hypervisor.Disk {
			t.Helper()
			d := floppy(t, tree{}.write(t), 8*mib)
			patched(t, d, 1024, bytes.Repeat([]byte{0xFF}, 0x38))
			return d
		},
		"more blocks than the disk": func(t *testing.T) hypervisor.Disk {
			t.Helper()
			d := floppy(t, tree{}.write(t), 8*mib, "-O", "^metadata_csum")
			patched(t, d, 1024+4, little.AppendUint32(nil, 1<<31))
			return d
		},
		"no qcow2": func(t *testing.T) hypervisor.Disk {
			t.Helper()
			d := floppy(t, tree{}.write(t), 8*mib)
			d.Format = hypervisor.DiskQCOW2
			return d
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := damage(t)
			before := checksum(t, d)
			every(t, d, func(what string, err error) {
				t.Helper()
				if err == nil || fault.Is(err, fault.Unknown) {
					t.Errorf("%s: %v", what, err)
				}
			})
			if checksum(t, d) != before {
				t.Error("the disk has changed")
			}
		})
	}
}

// TestDestroyedMetadata overwrites what the root directory and the inodes are in: an error, or a repair, but nothing worse.
func TestDestroyedMetadata(t *testing.T) {
	t.Parallel()
	content := make(tree)
	for i := range 300 {
		content["d"+strconv.Itoa(i%7)+"/f"+strconv.Itoa(i)] = strings.Repeat("x", i)
	}
	source := floppy(t, content.write(t), 4*mib)
	for i := range 12 {
		t.Run(strconv.Itoa(i), func(t *testing.T) {
			t.Parallel()
			raw, err := os.ReadFile(source.File)
			if err != nil {
				t.Fatal(err)
			}
			for at := 2048 + i*97; at < 400<<10; at += 1000 + i*331 {
				raw[at] ^= byte(0x5A + i)
			}
			d := hypervisor.Disk{File: filepath.Join(t.TempDir(), "disk")}
			if err := os.WriteFile(d.File, raw, 0o600); err != nil { //nolint:gosec // a path in the test's own folder
				t.Fatal(err)
			}
			every(t, d, func(what string, err error) {
				t.Helper()
				if fault.Is(err, fault.Unknown) || fault.Is(err, fault.Internal) {
					t.Errorf("%s: %v", what, err)
				}
			})
		})
	}
}

func TestAbsurdSizes(t *testing.T) {
	t.Parallel()
	dir := tree{}.write(t)
	if err := os.WriteFile(filepath.Join(dir, "endless"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(dir, "endless"), 1<<40); err != nil {
		t.Fatal(err)
	}
	d := floppy(t, dir, 8*mib)
	err := service().Scan(t.Context(), guestfs.Root{Disk: d}, nil, ignore)
	if !fault.Is(err, fault.FailedPrecondition) || !strings.Contains(err.Error(), "/endless") {
		t.Errorf("scan: %v", err)
	}
	// As a hole it costs nothing to take it over.
	vm := floppy(t, tree{"x": "y"}.write(t), 8*mib)
	if err := service().Patch(t.Context(), guestfs.Root{Disk: vm}, d, nil, new(bytes.Buffer)); err != nil {
		t.Fatal(err)
	}
	sound(t, vm, 0)
}

func TestCancel(t *testing.T) {
	t.Parallel()
	d := floppy(t, tree{"a": "1", "b": "2"}.write(t), 8*mib)
	ctx, cancel := context.WithCancel(t.Context())
	err := service().Scan(ctx, guestfs.Root{Disk: d}, nil, func(*hypervisorv1.FileEntry) error {
		cancel()
		return ctx.Err()
	})
	if !fault.Is(err, fault.Canceled) {
		t.Errorf("error: %v", err)
	}
	if err := service().Overlay(ctx, d, nil, nil); !fault.Is(err, fault.Canceled) {
		t.Errorf("error: %v", err)
	}
	nothingLeft(t, d)
}

// TestEndOfTheDaemon kills a process that has a child at work: everything goes with it.
func TestEndOfTheDaemon(t *testing.T) {
	t.Parallel()
	for _, format := range []hypervisor.DiskFormat{hypervisor.DiskRaw, hypervisor.DiskQCOW2} {
		content := make(tree)
		for i := range 2000 {
			content["f"+strconv.Itoa(i)] = strings.Repeat("x", 4096)
		}
		d := floppy(t, content.write(t), 64*mib)
		if format == hypervisor.DiskQCOW2 {
			d = qcow2(t, d)
		}
		daemon := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestAsDaemon$", "-test.timeout=60s") //nolint:gosec // this very program
		daemon.Env = append(os.Environ(), "GUESTFS_DISK="+d.File, "GUESTFS_FORMAT="+strconv.Itoa(int(format)))
		out, err := daemon.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := daemon.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := out.Read(make([]byte, 1)); err != nil { // the child sends entries now
			t.Fatal(err)
		}
		_ = daemon.Process.Kill()
		_ = daemon.Wait()
		deadline := time.After(20 * time.Second)
		for {
			left := command(t, "losetup", "--list", "--noheadings", "--output", "BACK-FILE") + command(t, "ps", "-eo", "args")
			if !strings.Contains(left, d.File) {
				break
			}
			select {
			case <-deadline:
				t.Fatalf("left: %s", left)
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
}
