package guestfs

import (
	"os"
	"path"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// maxDepth bounds how deep folders may lie in each other; each level takes a file descriptor.
const maxDepth = 500

// maxNames bounds the entries of one folder, which are sorted in memory.
const maxNames = 4 << 20

// folder is an open folder of a guest's file system.
type folder struct {
	*os.File
	path  string
	depth int
}

func rootFolder(m *mounted) folder { return folder{File: m.File, path: "/"} }

// join returns the path of an entry.
func (f folder) join(name string) string { return path.Join(f.path, name) }

// names returns the entries in order.
func (f folder) names() ([]string, error) {
	if _, err := f.Seek(0, 0); err != nil {
		return nil, f.fault(err)
	}
	names, err := f.Readdirnames(-1)
	if err != nil {
		return nil, f.fault(err)
	}
	if len(names) > maxNames {
		return nil, fault.New(fault.FailedPrecondition, "%s: has %d entries; %d is the most", f.path, len(names), maxNames)
	}
	slices.Sort(names)
	return names, nil
}

// stat describes an entry, not what it links to.
func (f folder) stat(name string) (st unix.Stat_t, err error) {
	err = unix.Fstatat(int(f.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if err != nil {
		err = &os.PathError{Op: "stat", Path: f.join(name), Err: err}
	}
	return st, err
}

// child opens a folder in this one.
func (f folder) child(name string) (folder, error) {
	at := f.join(name)
	if f.depth >= maxDepth {
		return folder{}, fault.New(fault.FailedPrecondition, "%s: lies more than %d folders deep", at, maxDepth)
	}
	fd, err := unix.Openat(int(f.Fd()), name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return folder{}, damaged(err, at)
	}
	return folder{File: os.NewFile(uintptr(fd), at), path: at, depth: f.depth + 1}, nil
}

// regular opens a file whose stat said that it is a regular one.
func (f folder) regular(name string) (*os.File, error) {
	fd, err := unix.Openat(int(f.Fd()), name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, damaged(err, f.join(name))
	}
	return os.NewFile(uintptr(fd), f.join(name)), nil
}

// link reads a symbolic link.
func (f folder) link(name string) (string, error) {
	b := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(int(f.Fd()), name, b)
	if err != nil {
		return "", damaged(err, f.join(name))
	}
	return string(b[:n]), nil
}

func (f folder) fault(err error) error { return damaged(err, f.path) }

// damaged gives the errors of a broken file system a code.
func damaged(err error, at string) error {
	if err == nil {
		return nil
	}
	code := fault.CodeOf(err)
	if code == fault.Unknown || code == fault.NotFound {
		code = fault.FailedPrecondition
	}
	return fault.As(code, err, "guest's file system: %s", at)
}

func kind(st unix.Stat_t) uint32 { return st.Mode & unix.S_IFMT }
