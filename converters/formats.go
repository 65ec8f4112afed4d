// Package converters copies disks from any source into any image format. It detects formats, opens images, and runs the parallel, sparse copy
// that all formats share. It knows no format itself: the list comes from package all.
package converters

import (
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/internal/engine"
	"github.com/hyperplane-project/hyperplane/converters/internal/refs"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// Formats are the disk formats in the order of detection. raw, which any file is, comes last.
type Formats []image.Format

// OpenOptions says how to open an image.
type OpenOptions struct {
	// Format is the format's name, if the caller knows it: then nothing else is tried and the file must be of that format. With "raw" the content
	// is not looked at. Empty detects the format; never do that for a file that whoever filled the disk could have chosen.
	Format string
	// SameFolder allows an image to have other files: regular files in its own folder. Without it, and without Refs, an image that needs one is refused.
	SameFolder bool
	image.OpenOptions
}

// Open opens the image file or block device at path for reading. No other file is opened, whatever the image says, unless o allows it.
// An error wraps image.ErrCorrupt, ErrTruncated, ErrUnsupported, ErrEncrypted, ErrReference or ErrLimit where the image is at fault.
func (f Formats) Open(ctx context.Context, path string, o OpenOptions) (image.Reader, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	file, err := openLocal(path)
	if err != nil {
		return nil, err
	}
	r, err := f.openLocalImage(file, o)
	if err != nil {
		return nil, errors.Join(fault.Wrap(err, "%s", path), file.Close())
	}
	return r, nil
}

func (f Formats) openLocalImage(file *image.LocalFile, o OpenOptions) (image.Reader, error) {
	if !o.SameFolder || o.Refs != nil {
		return f.open(file, o)
	}
	folder, err := refs.SameFolder(file, func(file image.File, format string, ref image.OpenOptions) (image.Reader, error) {
		ref.Force, ref.SizeRule = o.Force, o.SizeRule // what holds for the image holds for those it is based on
		return f.open(file, OpenOptions{Format: format, OpenOptions: ref})
	})
	if err != nil {
		return nil, err
	}
	defer func() { _ = folder.Close() }() // it was only read
	o.Refs = folder
	return f.open(file, o)
}

// Inspect describes the image at path. It opens no other file and reads at most image.MaxOpenBytes of this one.
func (f Formats) Inspect(path string, o OpenOptions) (image.Info, error) {
	file, err := openLocal(path)
	if err != nil {
		return image.Info{}, err
	}
	o.InfoOnly, o.Refs = true, nil
	r, err := f.open(&budgetFile{File: file}, o)
	if err != nil {
		return image.Info{}, errors.Join(fault.Wrap(err, "%s", path), file.Close())
	}
	info := r.Info()
	if info.Allocated, err = allocated(file); err != nil {
		return image.Info{}, errors.Join(err, r.Close())
	}
	return info, fault.Wrap(r.Close(), "%s", path)
}

// allocated returns how much room a file takes.
func allocated(file *image.LocalFile) (int64, error) {
	const block = 512 // whatever the file system's own blocks are
	var st unix.Stat_t
	err := unix.Fstat(int(file.OS().Fd()), &st)
	return st.Blocks * block, fault.Wrap(err, "%s", file.Name())
}

// Check examines the structure of the image at path: its checksums and tables, not the disk's content. It opens no other file. report is called for
// each finding.
func (f Formats) Check(ctx context.Context, path string, o OpenOptions, report func(image.Finding)) (err error) {
	file, err := openLocal(path)
	if err != nil {
		return err
	}
	o.InfoOnly, o.Refs = true, nil
	r, err := f.open(file, o)
	if err != nil {
		return errors.Join(fault.Wrap(err, "%s", path), file.Close())
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	c, ok := r.(image.Checker)
	if !ok {
		return image.Unsupportedf("%s: the format %s has no structure to check", path, r.Info().Format)
	}
	return engine.Protect(func() error { return c.Check(ctx, report) })
}

// OpenFile opens an image that is not a local file. The Reader owns file, unless an error is returned.
func (f Formats) OpenFile(file image.File, o OpenOptions) (image.Reader, error) {
	r, err := f.open(file, o)
	return r, fault.Wrap(err, "%s", file.Name())
}

// OpenStream reads a disk of the named format from r, front to back. size is the number of bytes r will deliver, or -1 if that is not known;
// raw needs it. The caller closes r.
func (f Formats) OpenStream(format string, r io.Reader, size int64) (image.Stream, error) {
	found, err := f.find(format)
	if err != nil {
		return nil, err
	}
	if found.OpenStream == nil {
		return nil, image.Unsupportedf("format %s cannot be read as a stream; give a file", format)
	}
	s, err := found.OpenStream(r, size)
	if errors.Is(err, image.ErrWrongFormat) {
		return nil, fault.New(fault.InvalidArgument, "the stream is not of format %s", format)
	}
	return s, err
}

// find returns the format with the given name.
func (f Formats) find(name string) (image.Format, error) {
	i := slices.IndexFunc(f, func(g image.Format) bool { return g.Name == name })
	if i < 0 {
		return image.Format{}, fault.New(fault.InvalidArgument, "there is no format %q; known are %s", name, strings.Join(f.names(), ", "))
	}
	return f[i], nil
}

func (f Formats) names() []string {
	var names []string
	for _, g := range f {
		if !slices.Contains(names, g.Name) {
			names = append(names, g.Name)
		}
	}
	return names
}

// open opens file as the format the caller states, or as the first whose magic it has.
func (f Formats) open(file image.File, o OpenOptions) (r image.Reader, err error) {
	err = engine.Protect(func() error {
		if o.Format == "" {
			r, err = f.detect(file, o.OpenOptions)
		} else {
			r, err = f.openAs(file, o.Format, o.OpenOptions)
		}
		return err
	})
	return r, err
}

func (f Formats) openAs(file image.File, format string, o image.OpenOptions) (image.Reader, error) {
	if _, err := f.find(format); err != nil {
		return nil, err
	}
	for _, g := range f {
		if g.Name != format {
			continue
		}
		if r, err := g.Open(file, o); !errors.Is(err, image.ErrWrongFormat) {
			return r, err
		}
	}
	return nil, fault.New(fault.InvalidArgument, "the file is not of format %s", format)
}

func (f Formats) detect(file image.File, o image.OpenOptions) (image.Reader, error) {
	for _, g := range f {
		r, err := g.Open(file, o)
		if errors.Is(err, image.ErrWrongFormat) {
			continue
		}
		return r, err
	}
	return nil, fault.New(fault.InvalidArgument, "the file is of no known format")
}

// openLocal opens a regular file or a block device. A pipe in its place does not block.
func openLocal(path string) (*image.LocalFile, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fault.Wrap(err, "open image")
	}
	l, err := image.NewLocalFile(f)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return l, nil
}

// budgetFile ends reading when more was read than opening may take.
type budgetFile struct {
	image.File
	read atomic.Int64
}

func (b *budgetFile) ReadAt(p []byte, off int64) (int, error) {
	if n := b.read.Add(int64(len(p))); n > image.MaxOpenBytes {
		return 0, image.Limitf("the image has more than %d bytes of metadata at its start", image.MaxOpenBytes)
	}
	return b.File.ReadAt(p, off)
}
