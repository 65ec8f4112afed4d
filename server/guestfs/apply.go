package guestfs

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// patchedName is what an entry is called until it is complete.
const patchedName = ".hyperplane-patch"

// applier makes changes.
type applier struct {
	ctx      func() error
	to, from *mounted
	log      io.Writer
}

func (a applier) all(changes []change) error {
	for _, c := range changes {
		if err := a.ctx(); err != nil {
			return err
		}
		if err := note(a.log, c); err != nil {
			return err
		}
		if err := a.one(c); err != nil {
			if errors.Is(err, unix.ENOSPC) {
				return fault.As(fault.ResourceExhausted, err, "%s: the guest's file system is full", shown(c.path))
			}
			return damaged(err, shown(c.path))
		}
	}
	// Last, since what is put into a folder changes its time.
	for _, c := range slices.Backward(changes) {
		if c.action == actMkdir {
			if err := a.within(c.path, func(vm, image int, name string) error { return copyTime(vm, image, name, name) }); err != nil {
				return damaged(err, shown(c.path))
			}
		}
	}
	return nil
}

// within calls do with the folders of a path in both trees and its last part. No link is followed. image is -1 if the image has no such folder.
func (a applier) within(p string, do func(vm, image int, name string) error) (err error) {
	vm, err := parent(a.to, p)
	if err != nil {
		return err
	}
	defer func() { err = join(err, unix.Close(vm)) }()
	image, err := parent(a.from, p)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return do(vm, -1, path.Base(p))
	}
	if err != nil {
		return err
	}
	defer func() { err = join(err, unix.Close(image)) }()
	if p == "/" {
		return do(vm, image, ".")
	}
	return do(vm, image, path.Base(p))
}

func parent(m *mounted, p string) (int, error) {
	return unix.Openat2(int(m.Fd()), path.Dir(p), &unix.OpenHow{
		Flags: unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_SYMLINKS,
	})
}

func (a applier) one(c change) error {
	return a.within(c.path, func(vm, image int, name string) error {
		switch c.action {
		case actRemove:
			return unix.Unlinkat(vm, name, 0)
		case actRemoveDir:
			return unix.Unlinkat(vm, name, unix.AT_REMOVEDIR)
		case actMkdir:
			return a.mkdir(vm, image, name)
		case actMeta:
			return copyMeta(vm, name, image, name)
		case actLink:
			return a.staged(vm, name, func() error {
				first, err := parent(a.to, c.to)
				if err != nil {
					return err
				}
				return join(unix.Linkat(first, path.Base(c.to), vm, patchedName, 0), unix.Close(first))
			})
		default:
			return a.staged(vm, name, func() error { return a.copyEntry(vm, image, name) })
		}
	})
}

// staged gives what stage makes under the name patchedName its own name, in place of what had that.
func (a applier) staged(vm int, name string, stage func() error) error {
	if err := unix.Unlinkat(vm, patchedName, 0); err != nil && !errors.Is(err, unix.ENOENT) {
		return err
	}
	err := stage()
	if err == nil {
		err = unix.Renameat(vm, patchedName, vm, name)
	}
	// Renaming a name of a file to another name of it does nothing and leaves both (rename(2)).
	if gone := unix.Unlinkat(vm, patchedName, 0); gone != nil && !errors.Is(gone, unix.ENOENT) {
		err = join(err, gone)
	}
	return err
}

func (a applier) mkdir(vm, image int, name string) error {
	if err := unix.Mkdirat(vm, name, 0o700); err != nil {
		return err
	}
	return copyMeta(vm, name, image, name)
}

// copyEntry makes the image's entry, which is no folder, under the staged name.
func (a applier) copyEntry(vm, image int, name string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(image, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	switch kind(st) {
	case unix.S_IFREG:
		return a.copyFile(vm, image, name)
	case unix.S_IFLNK:
		target := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(image, name, target)
		if err == nil {
			err = unix.Symlinkat(string(target[:n]), vm, patchedName)
		}
		if err == nil {
			err = unix.Fchownat(vm, patchedName, int(st.Uid), int(st.Gid), unix.AT_SYMLINK_NOFOLLOW)
		}
		return err
	default:
		err := unix.Mknodat(vm, patchedName, kind(st)|0o600, int(st.Rdev))
		if err == nil {
			err = unix.Fchownat(vm, patchedName, int(st.Uid), int(st.Gid), unix.AT_SYMLINK_NOFOLLOW)
		}
		if err == nil { // it was made a moment ago and is no link
			err = unix.Fchmodat(vm, patchedName, st.Mode&^unix.S_IFMT, 0)
		}
		return err
	}
}

func (a applier) copyFile(vm, image int, name string) error {
	from, err := unix.Openat(image, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	in := os.NewFile(uintptr(from), name)
	defer in.Close() //nolint:errcheck // it was only read
	to, err := unix.Openat(vm, patchedName, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	out := os.NewFile(uintptr(to), name)
	err = copySparse(a.ctx, out, in)
	err = join(err, out.Close())
	if err != nil {
		return err
	}
	if err := copyMeta(vm, patchedName, image, name); err != nil {
		return err
	}
	return copyTime(vm, image, patchedName, name)
}

// copySparse copies what is no hole.
func copySparse(ctx func() error, out, in *os.File) error {
	st, err := in.Stat()
	if err != nil {
		return err
	}
	for off := int64(0); off < st.Size(); {
		begin, err := unix.Seek(int(in.Fd()), off, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break // nothing but a hole is left
		}
		if err != nil {
			return err
		}
		end, err := unix.Seek(int(in.Fd()), begin, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		part := io.NewSectionReader(in, begin, end-begin)
		if _, err := io.Copy(io.NewOffsetWriter(out, begin), &interruptible{part, ctx}); err != nil {
			return err
		}
		off = end
	}
	return out.Truncate(st.Size())
}

// copyMeta gives a file or folder the owner, permissions and attributes of another, in this order: a change of the owner takes rights away.
func copyMeta(vm int, name string, image int, like string) (err error) {
	const flags = unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC
	to, err := unix.Openat(vm, name, flags, 0)
	if err != nil {
		return err
	}
	defer func() { err = join(err, unix.Close(to)) }()
	from, err := unix.Openat(image, like, flags, 0)
	if err != nil {
		return err
	}
	defer func() { err = join(err, unix.Close(from)) }()
	var st unix.Stat_t
	if err := unix.Fstat(from, &st); err != nil {
		return err
	}
	want, err := xattrs(from)
	if err != nil {
		return err
	}
	if err := unix.Fchown(to, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	if err := unix.Fchmod(to, st.Mode&^unix.S_IFMT); err != nil {
		return err
	}
	return setXattrs(to, want)
}

func copyTime(vm, image int, name, like string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(image, like, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	return unix.UtimesNanoAt(vm, name, []unix.Timespec{st.Atim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW)
}
