package converters

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// Files are the files of an image that is being made. Each has a hidden name, is readable by its owner only, and gets its own name when all are
// complete.
type Files struct {
	dir    string
	force  bool
	resume bool
	files  []*stagedFile // the main one first
}

// stagedFile is a file that does not have its name yet.
type stagedFile struct {
	f    *os.File
	name string
}

// Main is the image's first or only file.
func (s *Files) Main() *os.File { return s.files[0].f }

// Resumed reports whether Main holds what an earlier run has left.
func (s *Files) Resumed() (bool, error) {
	st, err := s.Main().Stat()
	return err == nil && st.Size() > 0, fault.Wrap(err, "%s", s.files[0].name)
}

// Sibling makes another file in the folder of the first.
func (s *Files) Sibling(name string) (image.Output, error) {
	if name != filepath.Base(name) || name == s.files[0].name {
		return nil, fault.New(fault.InvalidArgument, "%q cannot be the name of another file of the image", name)
	}
	return s.add(name)
}

func (s *Files) add(name string) (*os.File, error) {
	path := filepath.Join(s.dir, name)
	if _, err := os.Lstat(path); err == nil && !s.force {
		return nil, fault.New(fault.AlreadyExists, "%s: exists already; remove it or choose another name", path)
	}
	f, err := s.stage(name)
	if err != nil {
		return nil, fault.Wrap(err, "%s: make a temporary file", path)
	}
	s.files = append(s.files, &stagedFile{f, name})
	return f, nil
}

// stage opens the hidden file: a fresh one, or where the work can be taken up always the same.
func (s *Files) stage(name string) (*os.File, error) {
	if !s.resume {
		return os.CreateTemp(s.dir, "."+name+".partial-*")
	}
	f, err := os.OpenFile(PartialName(filepath.Join(s.dir, name)), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fault.New(fault.Aborted, "%s is being written by another run", f.Name()), f.Close())
	}
	return f, nil
}

// PartialName is the name of the unfinished file at path that a later run can take up.
func PartialName(path string) string {
	dir, name := filepath.Split(path)
	return filepath.Join(dir, "."+name+".partial")
}

// finish makes the files last and gives them their names, the main one last: whoever sees it sees a whole image.
func (s *Files) finish(ctx context.Context) error {
	for _, f := range s.files {
		if err := f.f.Sync(); err != nil {
			return fault.Wrap(err, "%s: sync", f.name)
		}
		if err := f.f.Close(); err != nil {
			return fault.Wrap(err, "%s: close", f.name)
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	for i, f := range slices.Backward(s.files) {
		if err := publish(f.f.Name(), filepath.Join(s.dir, f.name), s.force); err != nil {
			return errors.Join(fault.Wrap(err, "%s: give the finished file its name", f.name), s.retract(i+1))
		}
	}
	return syncDir(s.dir)
}

// retract removes the files from i on, which have got their names.
func (s *Files) retract(i int) error {
	var errs []error
	for _, f := range s.files[i:] {
		errs = append(errs, os.Remove(filepath.Join(s.dir, f.name)))
	}
	return errors.Join(errs...)
}

// discard closes the files and removes them, unless they are kept for a later run.
func (s *Files) discard() error {
	var errs []error
	for _, f := range s.files {
		errs = append(errs, ignore(f.f.Close(), os.ErrClosed))
		if !s.resume {
			errs = append(errs, ignore(os.Remove(f.f.Name()), os.ErrNotExist))
		}
	}
	return errors.Join(errs...)
}
