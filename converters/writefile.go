package converters

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// WriteFile makes the file at path with what write puts into it, or nothing at all: write gets a new file with a hidden name beside path, readable by its
// owner only, which is synced and renamed when write has succeeded, and removed when anything fails. An existing file is replaced only with force; without, an
// error with code AlreadyExists is returned, even if the file appears while write runs.
func WriteFile(ctx context.Context, path string, force bool, write func(ctx context.Context, f *os.File) error) error {
	return WriteFiles(ctx, path, WriteOptions{Force: force}, func(ctx context.Context, files *Files) error { return write(ctx, files.Main()) })
}

// WriteOptions says how files are made.
type WriteOptions struct {
	// Force replaces existing files.
	Force bool
	// Resume keeps what a failed run has written, under PartialName, and gives it to the next one.
	Resume bool
}

// WriteFiles is WriteFile for an image that may consist of several files: all get their names, or none.
func WriteFiles(ctx context.Context, path string, o WriteOptions, write func(ctx context.Context, files *Files) error) (err error) {
	if err := ctx.Err(); err != nil {
		return err
	}
	dir, name := filepath.Split(path)
	if dir == "" {
		dir = "."
	}
	s := &Files{dir: dir, force: o.Force, resume: o.Resume}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.discard())
		}
	}()
	if _, err := s.add(name); err != nil {
		return err
	}
	if err := write(ctx, s); err != nil {
		return fault.Wrap(err, "%s", path)
	}
	return fault.Wrap(s.finish(ctx), "%s", path)
}

// ignore drops an error of the given kind.
func ignore(err, kind error) error {
	if errors.Is(err, kind) {
		return nil
	}
	return err
}

// publish renames from to to. Without force it never replaces a file.
func publish(from, to string, force bool) error {
	if force {
		return os.Rename(from, to)
	}
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	if !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOSYS) {
		return err
	}
	// The file system has no such rename (NFS); a link does not replace a file either.
	if err := os.Link(from, to); err != nil {
		return err
	}
	return os.Remove(from)
}

// syncDir makes a rename in dir last.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fault.Wrap(err, "sync folder")
	}
	err = ignore(d.Sync(), unix.EINVAL) // not every file system can
	return fault.Wrap(errors.Join(err, d.Close()), "sync folder %s", dir)
}
