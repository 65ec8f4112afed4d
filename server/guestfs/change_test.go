package guestfs_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/guestfs"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// cat returns a file of a file system that lies at an offset of a raw disk.
func cat(t *testing.T, d hypervisor.Disk, offset int, path string) string {
	t.Helper()
	out := command(t, "debugfs", "-R", "cat "+path, fmt.Sprintf("%s?offset=%d", d.File, offset))
	_, out, _ = strings.Cut(out, "\n") // the version
	return out
}

func TestOverlay(t *testing.T) {
	t.Parallel()
	dir := tree{"etc/hosts": "old", "run/x": ""}.write(t)
	for name, target := range map[string]string{"var": "run", "away": "/../../../../tmp", "file": "/etc/hosts"} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	plain := partitioned(t, "gpt", 20*mib, floppy(t, dir, 8*mib))
	for _, d := range []hypervisor.Disk{qcow2(t, plain), plain} {
		err := service().Overlay(t.Context(), d, []string{"/a/b", "tmp"}, map[string][]byte{
			"/etc/hosts": []byte("new"), "new/deep/file": []byte("1"), "/var/through-link": []byte("2"), "/away/stays-inside": []byte("3"), "/file": []byte("4"),
		})
		if err != nil {
			t.Fatal(err)
		}
		got := scanned(t, guestfs.Root{Disk: d})
		for path, mode := range map[string]uint32{
			"/a": 0o40755, "/a/b": 0o40755, "/tmp": 0o40755, "/etc/hosts": 0o100644, "/new/deep": 0o40755, "/new/deep/file": 0o100644,
			"/run/through-link": 0o100644, "/tmp/stays-inside": 0o100644, "/file": 0o100644,
		} {
			if e := got[path]; e.GetMode() != mode || e.GetUserId() != 0 || e.GetGroupId() != 0 {
				t.Errorf("%s: %v", path, e)
			}
		}
		if _, err := os.Stat("/tmp/stays-inside"); err == nil {
			t.Error("a file was written outside of the disk")
		}
		nothingLeft(t, d)
	}
	sound(t, plain, mib)
	if got := cat(t, plain, mib, "/etc/hosts"); got != "new" {
		t.Errorf("hosts: %q", got)
	}
}

func TestOverlayRefuses(t *testing.T) {
	t.Parallel()
	dir := tree{"folder/x": ""}.write(t)
	if err := os.Symlink("/nowhere", filepath.Join(dir, "dangling")); err != nil {
		t.Fatal(err)
	}
	d := floppy(t, dir, 4*mib)
	for path, want := range map[string]fault.Code{
		"/": fault.InvalidArgument, "/a/../../b": fault.InvalidArgument, "a\x00": fault.InvalidArgument,
		"/folder": fault.FailedPrecondition, "/folder/x/y": fault.FailedPrecondition, "/dangling/y": fault.FailedPrecondition,
	} {
		if err := service().Overlay(t.Context(), d, nil, map[string][]byte{path: []byte("x")}); !fault.Is(err, want) {
			t.Errorf("%q: %v", path, err)
		}
	}
	if err := service().Overlay(t.Context(), d, nil, map[string][]byte{"/big": make([]byte, 8*mib)}); !fault.Is(err, fault.ResourceExhausted) {
		t.Errorf("full: %v", err)
	}
	sound(t, d, 0)
}

// patchTrees are a VM's content and an image's, with everything that can differ.
func patchTrees(t *testing.T) (vm, image string) {
	t.Helper()
	vm = tree{
		"same": "1", "content": "old", "size": "short", "gone/deep/file": "x", "gone2": "x", "mode": "m", "owner": "o", "was-file": "f", "was-dir/below": "d",
		"home/user": "precious", "keep/some/kept": "kept", "keep/some/other": "x", "split1": "s", "sparse": "", "caps": "c", "link-content": "l", "joined2": "j",
	}.write(t)
	image = tree{
		"same": "1", "content": "new", "size": "much longer", "mode": "m", "owner": "o", "was-file/below": "d", "was-dir": "f", "home/user": "of the image",
		"home/image-only": "x", "new/deep/file": "n", "split1": "s", "split2": "s", "caps": "c", "link-content": "l", "joined": "j", "empty/": "",
	}.write(t)
	link := func(dir, from, to string) {
		t.Helper()
		if err := os.Link(filepath.Join(dir, from), filepath.Join(dir, to)); err != nil {
			t.Fatal(err)
		}
	}
	link(vm, "split1", "split2")
	link(image, "joined", "joined2")
	link(image, "joined", "new/joined3")
	for dir, target := range map[string]string{vm: "a", image: "b"} {
		if err := os.Symlink(target, filepath.Join(dir, "symlink")); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Join(image, "mode"), 0o4755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(filepath.Join(image, "owner"), 1000, 1001); err != nil {
		t.Fatal(err)
	}
	command(t, "mkfifo", filepath.Join(image, "pipe"))
	command(t, "mkfifo", filepath.Join(vm, "empty"))
	command(t, "mknod", filepath.Join(image, "sparse"), "b", "7", "9")
	return vm, image
}

func TestPatch(t *testing.T) {
	t.Parallel()
	vmTree, imageTree := patchTrees(t)
	image := partitioned(t, "gpt", 20*mib, floppy(t, imageTree, 8*mib))
	d := partitioned(t, "mbr", 20*mib, floppy(t, vmTree, 8*mib))
	filter := []string{"/home/", "/keep/some/kept"}
	var log bytes.Buffer
	if err := service().Patch(t.Context(), guestfs.Root{Disk: d}, image, filter, &log); err != nil {
		t.Fatal(err)
	}
	sound(t, d, mib)
	nothingLeft(t, image)
	got, want := contents(t, d), contents(t, image)
	// What the filter names differs, and nothing else.
	lines := func(text string) (out []string) {
		for line := range strings.Lines(text) {
			if !strings.HasPrefix(line, "/home/") && !strings.HasPrefix(line, "/keep") {
				out = append(out, line)
			}
		}
		return out
	}
	if diff := cmp.Diff(lines(want), lines(got)); diff != "" {
		t.Errorf("the VM's is not the image's:\n%s", diff)
	}
	for path, want := range map[string]string{"/home/user": "precious", "/keep/some/kept": "kept", "/content": "new"} {
		if got := cat(t, d, mib, path); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
	if strings.Contains(got, "/home/image-only") || strings.Contains(got, "/keep/some/other") {
		t.Errorf("contents:\n%s", got)
	}
	for path, links := range map[string]string{"/joined": "Links: 3", "/split1": "Links: 1", "/split2": "Links: 1"} {
		if out := command(t, "debugfs", "-R", "stat "+path, fmt.Sprintf("%s?offset=%d", d.File, mib)); !strings.Contains(out, links) {
			t.Errorf("%s: %s, want %s", path, out, links)
		}
	}
	for _, line := range []string{"delete /gone/deep/file\n", "write /content\n", "make folder /new/deep\n", "set owner and permissions of /owner\n", "/joined3 to /"} {
		if !strings.Contains(log.String(), line) {
			t.Errorf("log lacks %q:\n%s", line, log.String())
		}
	}
	// A second time there is nothing to do.
	log.Reset()
	if err := service().Patch(t.Context(), guestfs.Root{Disk: d}, image, filter, &log); err != nil || log.Len() != 0 {
		t.Errorf("again: %v\n%s", err, log.String())
	}
}

func TestPatchKeepsCapabilities(t *testing.T) {
	t.Parallel()
	image := floppy(t, tree{"ping": "x"}.write(t), 4*mib)
	// VFS_CAP_REVISION_2, cap_net_raw.
	value := filepath.Join(t.TempDir(), "caps")
	if err := os.WriteFile(value, []byte("\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"), 0o600); err != nil {
		t.Fatal(err)
	}
	command(t, "debugfs", "-w", "-R", "ea_set -f "+value+" /ping security.capability", image.File)
	for _, vm := range []tree{{}, {"ping": "x"}} {
		d := floppy(t, vm.write(t), 4*mib)
		if err := service().Patch(t.Context(), guestfs.Root{Disk: d}, image, []string{"/none"}, new(bytes.Buffer)); err != nil {
			t.Fatal(err)
		}
		if out := command(t, "debugfs", "-R", "ea_list /ping", d.File); !strings.Contains(out, "security.capability (20)") {
			t.Errorf("attributes: %s", out)
		}
	}
}

func TestPatchThatDoesNotFit(t *testing.T) {
	t.Parallel()
	image := floppy(t, tree{"big": strings.Repeat("0123456789abcdef", 6*mib/16)}.write(t), 16*mib)
	d := floppy(t, tree{"mine": "1"}.write(t), 4*mib)
	before := contents(t, d)
	err := service().Patch(t.Context(), guestfs.Root{Disk: d}, image, nil, new(bytes.Buffer))
	if !fault.Is(err, fault.ResourceExhausted) || !strings.Contains(err.Error(), "does not fit") {
		t.Errorf("error: %v", err)
	}
	if diff := cmp.Diff(before, contents(t, d)); diff != "" {
		t.Errorf("changed:\n%s", diff)
	}
}

func TestPatchFilterConflict(t *testing.T) {
	t.Parallel()
	image, d := floppy(t, tree{"data": "file"}.write(t), 4*mib), floppy(t, tree{"data/mine": "1"}.write(t), 4*mib)
	err := service().Patch(t.Context(), guestfs.Root{Disk: d}, image, []string{"/data/mine"}, new(bytes.Buffer))
	if !fault.Is(err, fault.FailedPrecondition) || !strings.Contains(err.Error(), "/data") {
		t.Errorf("error: %v", err)
	}
}

func TestGrowAndShrink(t *testing.T) {
	t.Parallel()
	dir := tree{"file": "content"}.write(t)
	for name, d := range map[string]hypervisor.Disk{
		"floppy": floppy(t, dir, 8*mib),
		"mbr":    partitioned(t, "mbr", 16*mib, floppy(t, tree{}.write(t), 4*mib), floppy(t, dir, 8*mib)),
		"gpt":    partitioned(t, "gpt", 16*mib, floppy(t, tree{}.write(t), 4*mib), floppy(t, dir, 8*mib)),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			offset := int64(0)
			if name != "floppy" {
				offset = 5 * mib
			}
			if err := os.Truncate(d.File, 64*mib); err != nil {
				t.Fatal(err)
			}
			if grown, err := service().Grow(t.Context(), d); err != nil || !grown {
				t.Fatal(grown, err)
			}
			sound(t, d, offset)
			verify(t, name, d)
			if blocks := blocksOf(t, d, offset); blocks < 57*mib {
				t.Errorf("the file system has %d bytes", blocks)
			}
			const small = 24 * mib
			if err := service().ShrinkFilesystem(t.Context(), d, 2*mib); !fault.Is(err, fault.FailedPrecondition) {
				t.Errorf("too small: %v", err)
			}
			if err := service().ShrinkFilesystem(t.Context(), d, small); err != nil {
				t.Fatal(err)
			}
			if err := os.Truncate(d.File, small); err != nil {
				t.Fatal(err)
			}
			sound(t, d, offset)
			verify(t, name, d)
			if got := scanned(t, guestfs.Root{Disk: d}); got["/file"] == nil {
				t.Errorf("entries: %v", got)
			}
		})
	}
}

// verify has another program look at a partition table.
func verify(t *testing.T, kind string, d hypervisor.Disk) {
	t.Helper()
	if kind != "gpt" {
		return
	}
	if out := command(t, "sgdisk", "--verify", d.File); !strings.Contains(out, "No problems found") {
		t.Errorf("sgdisk: %s", out)
	}
}

// blocksOf returns the size of a file system in bytes.
func blocksOf(t *testing.T, d hypervisor.Disk, offset int64) (size int64) {
	t.Helper()
	var count, block int64
	for line := range strings.Lines(command(t, "dumpe2fs", "-h", fmt.Sprintf("%s?offset=%d", d.File, offset))) {
		_, _ = fmt.Sscanf(line, "Block count: %d", &count)
		_, _ = fmt.Sscanf(line, "Block size: %d", &block)
	}
	return count * block
}

func TestGrowWithNothingToGrow(t *testing.T) {
	t.Parallel()
	empty := hypervisor.Disk{File: filepath.Join(t.TempDir(), "empty")}
	if err := os.WriteFile(empty.File, make([]byte, 4*mib), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, d := range []hypervisor.Disk{empty, partitioned(t, "gpt", 8*mib, empty)} {
		before := checksum(t, d)
		if grown, err := service().Grow(t.Context(), d); grown || err != nil {
			t.Errorf("%v, %v", grown, err)
		}
		if checksum(t, d) != before {
			t.Error("the disk has changed")
		}
	}
}

func TestMakeFilesystem(t *testing.T) {
	t.Parallel()
	d := hypervisor.Disk{File: filepath.Join(t.TempDir(), "disk.raw")}
	if err := os.WriteFile(d.File, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(d.File, 32*mib); err != nil {
		t.Fatal(err)
	}
	for _, disk := range []hypervisor.Disk{qcow2(t, d), d} {
		err := service().MakeFilesystem(t.Context(), disk, &hypervisorv1.VolumeInitialisationInfo{
			Label: "data", BytesPerInode: 65536, ReservedBlocksPercentage: 3, RootUserId: 7, RootGroupId: 8,
		})
		if err != nil {
			t.Fatal(err)
		}
		got := scanned(t, guestfs.Root{Disk: disk, Label: "data"})
		if e := got["/"]; e.GetUserId() != 7 || e.GetGroupId() != 8 || len(got) != 2 {
			t.Errorf("entries: %v", got)
		}
	}
	sound(t, d, 0)
	out := command(t, "dumpe2fs", "-h", d.File)
	for _, line := range []string{"Inode count:              512", "Reserved block count:     983"} {
		if !strings.Contains(out, line) {
			t.Errorf("%q is missing in %s", line, out)
		}
	}
	for _, bad := range []*hypervisorv1.VolumeInitialisationInfo{
		{}, {Label: "this label is too long"}, {Label: "x", BytesPerInode: 1}, {Label: "x", ReservedBlocksPercentage: 51},
	} {
		if err := service().MakeFilesystem(t.Context(), d, bad); !fault.Is(err, fault.InvalidArgument) {
			t.Errorf("%v: %v", bad, err)
		}
	}
}
