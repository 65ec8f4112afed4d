package guestfs

import (
	"context"
	"errors"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

const (
	overlayFile      = 0o644
	overlayDirectory = 0o755
	// stagedName is what a file is called until it is complete.
	stagedName = ".hyperplane-overlay"
)

// checkPath accepts the path of an overlay. One that has no slash in front begins at the root too.
func checkPath(p string) error {
	switch {
	case path.Clean("/"+p) == "/":
		return fault.New(fault.InvalidArgument, "overlay: %q names no file", p)
	case strings.ContainsRune(p, 0), len(p) >= unix.PathMax:
		return fault.New(fault.InvalidArgument, "overlay: %.100q is not a path", p)
	case slices.Contains(strings.Split(p, "/"), ".."):
		return fault.New(fault.InvalidArgument, "overlay: %q has \"..\" in it", p)
	}
	return nil
}

func overlay(ctx context.Context, d *openedDisk, label string, directories []string, files map[string][]byte) (err error) {
	m, err := mountRoot(ctx, d, label)
	if err != nil {
		return err
	}
	defer func() { err = join(err, m.unmount()) }()
	for _, p := range directories {
		fd, err := ensure(int(m.Fd()), path.Clean("/"+p))
		if err != nil {
			return err
		}
		if err := unix.Close(fd); err != nil {
			return err
		}
	}
	for p, content := range files {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := put(int(m.Fd()), path.Clean("/"+p), content); err != nil {
			return err
		}
	}
	return nil
}

// ensure opens a folder, which is made with those above it if it is missing. Links are followed, but not out of the root.
func ensure(root int, p string) (fd int, err error) {
	how := &unix.OpenHow{Flags: unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	fd, err = unix.Openat2(root, p, how)
	if !errors.Is(err, unix.ENOENT) {
		return fd, overlayFault(err, p)
	}
	above, err := ensure(root, path.Dir(p))
	if err != nil {
		return -1, err
	}
	defer func() { err = join(err, unix.Close(above)) }()
	if err := unix.Mkdirat(above, path.Base(p), overlayDirectory); err != nil {
		return -1, overlayFault(err, p) // EEXIST: a link to nothing
	}
	fd, err = unix.Openat(above, path.Base(p), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, overlayFault(err, p)
	}
	err = errors.Join(unix.Fchown(fd, 0, 0), unix.Fchmod(fd, overlayDirectory))
	return fd, overlayFault(err, p)
}

// put writes a file. It has its name only when it is complete.
func put(root int, p string, content []byte) (err error) {
	dir, err := ensure(root, path.Dir(p))
	if err != nil {
		return err
	}
	defer func() { err = join(err, unix.Close(dir)) }()
	if err := unix.Unlinkat(dir, stagedName, 0); err != nil && !errors.Is(err, unix.ENOENT) {
		return overlayFault(err, p)
	}
	fd, err := unix.Openat(dir, stagedName, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return overlayFault(err, p)
	}
	f := os.NewFile(uintptr(fd), p)
	_, err = f.Write(content)
	err = errors.Join(err, unix.Fchown(fd, 0, 0), unix.Fchmod(fd, overlayFile), f.Sync(), f.Close())
	if err == nil {
		err = unix.Renameat(dir, stagedName, dir, path.Base(p))
	}
	if err != nil {
		return overlayFault(errors.Join(err, unix.Unlinkat(dir, stagedName, 0)), p)
	}
	return nil
}

func overlayFault(err error, p string) error {
	if errors.Is(err, unix.ENOSPC) {
		return fault.As(fault.ResourceExhausted, err, "overlay: %s: the guest's file system is full", p)
	}
	return fault.As(fault.FailedPrecondition, err, "overlay: %s", p)
}
