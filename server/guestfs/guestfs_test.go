package guestfs_test

import (
	"bytes"
	"context"
	"crypto/sha512"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/server/guestfs"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

func contextOfChild() context.Context { return context.Background() } //nolint:forbidigo // the root of the child's work

func service() *guestfs.Service { return &guestfs.Service{Self: guestfs.Self()} }

// command runs a program and returns its output.
func command(t *testing.T, name string, args ...string) string {
	t.Helper()
	c := exec.CommandContext(t.Context(), name, args...)
	c.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	if path, err := exec.LookPath("/usr/sbin/" + name); err == nil {
		c.Path = path
		c.Err = nil
	}
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

const mib = 1 << 20

// tree is the content of a file system: path to content; a path that ends in a slash is a folder.
type tree map[string]string

func (c tree) write(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for path, text := range c {
		at := filepath.Join(dir, path)
		if strings.HasSuffix(path, "/") {
			if err := os.MkdirAll(at, 0o755); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at, []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// floppy makes a disk that is one file system with the content of a folder.
func floppy(t *testing.T, dir string, size int64, options ...string) hypervisor.Disk {
	t.Helper()
	file := filepath.Join(t.TempDir(), "disk.raw")
	if !slices.Contains(options, "-t") {
		options = append([]string{"-t", "ext4"}, options...)
	}
	args := append([]string{"-q", "-F", "-d", dir}, options...)
	command(t, "mke2fs", append(args, file, strconv.FormatInt(size/1024, 10)+"k")...)
	return hypervisor.Disk{File: file}
}

// partitioned puts file systems into the partitions of a disk. table is gpt or mbr.
func partitioned(t *testing.T, table string, size int64, parts ...hypervisor.Disk) hypervisor.Disk {
	t.Helper()
	file := filepath.Join(t.TempDir(), "disk.raw")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	at := int64(mib)
	mbr, sgdisk := make([]byte, 512), []string{"--clear"}
	for i, p := range parts {
		st, err := os.Stat(p.File)
		if err != nil {
			t.Fatal(err)
		}
		e := mbr[446+16*i:]
		e[4] = 0x83
		binary.LittleEndian.PutUint32(e[8:], uint32(at/512))
		binary.LittleEndian.PutUint32(e[12:], uint32(st.Size()/512))
		sgdisk = append(sgdisk, fmt.Sprintf("--new=%d:%d:+%dK", i+1, at/512, st.Size()/1024))
		at += st.Size()
	}
	if table == "gpt" {
		command(t, "sgdisk", append(sgdisk, file)...)
	} else {
		mbr[510], mbr[511] = 0x55, 0xAA
		if _, err := f.WriteAt(mbr, 0); err != nil {
			t.Fatal(err)
		}
	}
	at = mib
	for _, p := range parts {
		content, err := os.ReadFile(p.File)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt(content, at); err != nil {
			t.Fatal(err)
		}
		at += int64(len(content))
	}
	return hypervisor.Disk{File: file}
}

// scanned returns the entries of a disk by path.
func scanned(t *testing.T, r guestfs.Root, filter ...string) map[string]*hypervisorv1.FileEntry {
	t.Helper()
	all := make(map[string]*hypervisorv1.FileEntry)
	err := service().Scan(t.Context(), r, filter, func(e *hypervisorv1.FileEntry) error {
		all[e.GetPath()] = e
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// contents returns what a disk has, in one line an entry.
func contents(t *testing.T, d hypervisor.Disk) string {
	t.Helper()
	var text strings.Builder
	err := service().Scan(t.Context(), guestfs.Root{Disk: d}, []string{"/lost.found"}, func(e *hypervisorv1.FileEntry) error {
		fmt.Fprintf(&text, "%s %o %d:%d %x %s %d\n", e.GetPath(), e.GetMode(), e.GetUserId(), e.GetGroupId(), e.GetSha512(), e.GetSymlink(), e.GetDevice())
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return text.String()
}

// sound checks a file system from outside.
func sound(t *testing.T, d hypervisor.Disk, offset int64) {
	t.Helper()
	command(t, "e2fsck", "-f", "-n", d.File+"?offset="+strconv.FormatInt(offset, 10))
	nothingLeft(t, d)
}

// nothingLeft checks that no loop device shows the disk.
func nothingLeft(t *testing.T, d hypervisor.Disk) {
	t.Helper()
	if out := command(t, "losetup", "--associated", d.File); out != "" {
		t.Errorf("left: %s", out)
	}
}

func TestScan(t *testing.T) {
	t.Parallel()
	dir := tree{"etc/passwd": "root", "etc.d": "x", "empty/": ""}.write(t)
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	command(t, "mkfifo", filepath.Join(dir, "pipe"))
	command(t, "mknod", filepath.Join(dir, "null"), "c", "1", "3")
	for name, d := range map[string]hypervisor.Disk{
		"floppy": floppy(t, dir, 8*mib),
		"ext2":   floppy(t, dir, 8*mib, "-t", "ext2"),
		"mbr":    partitioned(t, "mbr", 20*mib, floppy(t, tree{}.write(t), 4*mib), floppy(t, dir, 8*mib)),
		"gpt":    partitioned(t, "gpt", 20*mib, floppy(t, dir, 8*mib), floppy(t, tree{}.write(t), 4*mib)),
		"qcow2":  qcow2(t, partitioned(t, "gpt", 20*mib, floppy(t, dir, 8*mib))),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			before := checksum(t, d)
			got := scanned(t, guestfs.Root{Disk: d}, "/lost.found")
			if len(got) != 8 {
				t.Errorf("entries: %v", got)
			}
			sum := sha512.Sum512([]byte("root"))
			if e := got["/etc/passwd"]; !bytes.Equal(e.GetSha512(), sum[:]) || e.GetMode() != 0o100640 || e.GetSize() != 4 || e.GetModifiedOn() == nil {
				t.Errorf("passwd: %v", e)
			}
			if e := got["/link"]; e.GetSymlink() != "/etc/passwd" || e.GetMode()&0o170000 != 0o120000 {
				t.Errorf("link: %v", e)
			}
			if e := got["/null"]; e.GetDevice() != 0x103 || got["/pipe"].GetMode()&0o170000 != 0o010000 {
				t.Errorf("null: %v", e)
			}
			if after := checksum(t, d); after != before {
				t.Error("scanning changed the disk")
			}
			nothingLeft(t, d)
		})
	}
}

func checksum(t *testing.T, d hypervisor.Disk) string {
	t.Helper()
	raw, err := os.ReadFile(d.File)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", sha512.Sum512(raw))
}

func qcow2(t *testing.T, d hypervisor.Disk) hypervisor.Disk {
	t.Helper()
	file := filepath.Join(t.TempDir(), "disk.qcow2")
	command(t, "qemu-img", "convert", "-O", "qcow2", d.File, file)
	return hypervisor.Disk{File: file, Format: hypervisor.DiskQCOW2}
}

func TestLabelChoosesTheRoot(t *testing.T) {
	t.Parallel()
	d := partitioned(t, "gpt", 40*mib, floppy(t, tree{"small": ""}.write(t), 4*mib, "-L", "one"), floppy(t, tree{"large": ""}.write(t), 8*mib, "-L", "two"))
	if got := scanned(t, guestfs.Root{Disk: d, Label: "one"}); got["/small"] == nil {
		t.Errorf("entries: %v", got)
	}
	if got := scanned(t, guestfs.Root{Disk: d}); got["/large"] == nil {
		t.Errorf("entries: %v", got)
	}
	if err := service().Scan(t.Context(), guestfs.Root{Disk: d, Label: "three"}, nil, ignore); err == nil || !strings.Contains(err.Error(), `label "three"`) {
		t.Errorf("unknown label: %v", err)
	}
}

func TestFilter(t *testing.T) {
	t.Parallel()
	d := floppy(t, tree{"var/log/a": "1", "var/b": "2", "vari": "3"}.write(t), 4*mib)
	var got []string
	err := service().Scan(t.Context(), guestfs.Root{Disk: d}, []string{"/lost", "/var/log$", "/vari"}, func(e *hypervisorv1.FileEntry) error {
		got = append(got, e.GetPath())
		return nil
	})
	if diff := cmp.Diff([]string{"/", "/var", "/var/b"}, got); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
}
