// Package refs opens the files a disk image names, under the one policy that is offered: regular files of the folder the image itself lies in.
package refs

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// MaxDepth is how many images deep a chain of backing files or parents may be, the image itself included.
const MaxDepth = 16

// OpenFunc opens a file as an image of the named format; format is never empty.
type OpenFunc func(f image.File, format string, o image.OpenOptions) (image.Reader, error)

// Folder is the References of an image in a local folder. Names with a path, links, devices and pipes are refused; so is a file that is named twice,
// which ends loops. It is used by one goroutine.
type Folder struct {
	root  *os.Root
	open  OpenFunc
	seen  *[]os.FileInfo
	depth int
}

var _ image.References = (*Folder)(nil)

// SameFolder returns the References of the image f. The caller closes the Folder when the image has been opened; what was opened stays open.
func SameFolder(f *image.LocalFile, open OpenFunc) (*Folder, error) {
	st, err := f.OS().Stat()
	if err != nil {
		return nil, fault.Wrap(err, "%s", f.Name())
	}
	root, err := os.OpenRoot(filepath.Dir(f.Name()))
	if err != nil {
		return nil, fault.Wrap(err, "open the image's folder")
	}
	return &Folder{root: root, open: open, seen: &[]os.FileInfo{st}, depth: 1}, nil
}

// Close closes the folder.
func (d *Folder) Close() error { return d.root.Close() }

// File opens a file that holds a part of the disk.
func (d *Folder) File(ref image.Reference) (image.File, error) {
	name, err := localName(ref)
	if err != nil {
		return nil, err
	}
	want, err := d.root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.As(fault.NotFound, image.ErrReference, "the image's %s %q is not in its folder", ref.Kind, ref.Name)
	}
	if err != nil {
		return nil, fault.As(fault.PermissionDenied, image.ErrReference, "the image's %s %q: %v", ref.Kind, ref.Name, err)
	}
	if !want.Mode().IsRegular() {
		return nil, image.Referencef("the image's %s %q is no regular file", ref.Kind, ref.Name)
	}
	f, err := d.root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fault.Wrap(err, "the image's %s %q", ref.Kind, ref.Name)
	}
	l, err := d.accept(ref, f, want)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return l, nil
}

// accept checks that f is what was looked at, and was not opened before.
func (d *Folder) accept(ref image.Reference, f *os.File, want os.FileInfo) (*image.LocalFile, error) {
	got, err := f.Stat()
	if err != nil {
		return nil, fault.Wrap(err, "the image's %s %q", ref.Kind, ref.Name)
	}
	if !os.SameFile(got, want) {
		return nil, image.Referencef("the image's %s %q was replaced while it was opened", ref.Kind, ref.Name)
	}
	for _, other := range *d.seen {
		if os.SameFile(got, other) {
			return nil, image.Referencef("the image's %s %q is a file that is part of it already: a loop", ref.Kind, ref.Name)
		}
	}
	*d.seen = append(*d.seen, got)
	return image.NewLocalFile(f)
}

// localName returns the name of a file in the folder. Nothing in a name has a meaning except "./" in front of it.
func localName(ref image.Reference) (string, error) {
	name := ref.Name
	for strings.HasPrefix(name, "./") {
		name = name[2:]
	}
	if name == "" {
		return "", image.Referencef("the image does not name its %s", ref.Kind)
	}
	if name != path.Base(name) || name == "." || name == ".." || strings.ContainsRune(name, 0) {
		return "", image.Referencef("the image's %s %q is not in its folder; only files there are opened", ref.Kind, ref.Name)
	}
	return name, nil
}

// Image opens a file as an image of the named format.
func (d *Folder) Image(ref image.Reference, format string) (image.Reader, error) {
	if format == "" {
		return nil, image.Referencef("the image does not say of which format its %s %q is, and that is never guessed; state it: qemu-img rebase -u -F FORMAT",
			ref.Kind, ref.Name)
	}
	if d.depth >= MaxDepth {
		return nil, image.Limitf("the chain of images is deeper than %d; the next is %q", MaxDepth, ref.Name)
	}
	f, err := d.File(ref)
	if err != nil {
		return nil, err
	}
	deeper := *d
	deeper.depth++
	r, err := d.open(f, format, image.OpenOptions{Refs: &deeper})
	if err != nil {
		return nil, errors.Join(fault.Wrap(err, "%s %q", ref.Kind, ref.Name), f.Close())
	}
	return r, nil
}
