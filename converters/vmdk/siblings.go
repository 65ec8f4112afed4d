package vmdk

import (
	"fmt"
	"os"
	"strings"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// splitSectors is the size of the extents of the twoGbMaxExtent variants; the last is shorter. It is VMware's: 2 GiB less a MiB.
const splitSectors = 4192256

// siblings are the files that hold the content of a disk that is written, beside the file of the descriptor.
type siblings struct {
	out     image.Output // of the descriptor
	variant string
	opts    StreamOptions
	lines   []extentLine
	content *joinedOutput
}

// newSiblings prepares a disk without extents. create makes their files.
func newSiblings(out image.Output, variant string, o StreamOptions, create func(name string) (image.Output, error)) (*siblings, error) {
	if create == nil {
		return nil, image.Unsupportedf("vmdk: a %s disk has several files, and only one can be written here; choose %s or %s",
			variant, streamOptimized, monolithicSparse)
	}
	return &siblings{out: out, variant: variant, opts: o, content: &joinedOutput{create: create}}, nil
}

// add makes the file of another extent, whose name is the disk's and the suffix.
func (s *siblings) add(line extentLine, suffix string) (image.Output, error) {
	line.name = baseName(s.opts.Name) + suffix + ".vmdk"
	out, err := s.content.add(line.name)
	s.lines = append(s.lines, line)
	return out, err
}

// split adds extents of splitSectors for a disk of the given size. letter tells the kinds of file apart: disk-s001.vmdk. Even an empty disk has an extent.
func (s *siblings) split(sectors uint64, kind, letter string, begin func(out image.Output, sectors uint64) error) error {
	if sectors > maxExtents*splitSectors {
		return image.Limitf("vmdk: a disk of %d sectors takes more than %d files of %d; choose %s or %s",
			sectors, maxExtents, splitSectors, monolithicFlat, streamOptimized)
	}
	for i := 1; i == 1 || sectors > 0; i++ {
		n := min(sectors, splitSectors)
		sectors -= n
		out, err := s.add(extentLine{sectors: n, kind: kind}, fmt.Sprintf("-%s%03d", letter, i))
		if err != nil {
			return err
		}
		if err := begin(out, n); err != nil {
			return err
		}
	}
	return nil
}

// Content returns the output that the content goes to.
func (s *siblings) Content() image.Output { return s.content }

// finish writes the descriptor. It is last: without it there is no disk.
func (s *siblings) finish(size int64) error {
	text := describe(s.variant, uint64(size/sectorSize), s.lines, s.opts)
	if len(text) > maxDescriptor {
		return fault.New(fault.InvalidArgument, "vmdk: the file name %q, in a line for each of %d files, makes the descriptor exceed %d bytes",
			s.opts.Name, len(s.lines), maxDescriptor)
	}
	if _, err := s.out.WriteAt([]byte(text), 0); err != nil {
		return fault.Wrap(err, "vmdk: write the descriptor")
	}
	return fault.Wrap(s.out.Truncate(int64(len(text))), "vmdk: set the descriptor's size to %d bytes", len(text))
}

// baseName returns the name of a disk's file without its extension.
func baseName(name string) string {
	const extension = ".vmdk"
	name = fileName(name)
	if n := len(name) - len(extension); n > 0 && strings.EqualFold(name[n:], extension) {
		return name[:n]
	}
	return name
}

// joinedOutput is several files as one output: file i takes the offsets from i*span on. Nothing is written across files.
type joinedOutput struct {
	create func(name string) (image.Output, error)
	files  []image.Output
	span   int64
}

var _ image.CloneOutput = (*joinedOutput)(nil)

func (j *joinedOutput) add(name string) (image.Output, error) {
	out, err := j.create(name)
	if err != nil {
		return nil, fault.Wrap(err, "vmdk: make the file %q", name)
	}
	j.files = append(j.files, out)
	return out, nil
}

// WriteAt writes to the file that off is in.
func (j *joinedOutput) WriteAt(p []byte, off int64) (int, error) {
	return j.files[off/j.span].WriteAt(p, off%j.span)
}

// ReadAt reads the file that off is in.
func (j *joinedOutput) ReadAt(p []byte, off int64) (int, error) {
	return j.files[off/j.span].ReadAt(p, off%j.span)
}

// Truncate empties the files; it does nothing else.
func (j *joinedOutput) Truncate(size int64) error {
	if size != 0 {
		return fault.New(fault.Internal, "vmdk: the files of a disk are only emptied together, not set to %d bytes", size)
	}
	for _, f := range j.files {
		if err := f.Truncate(0); err != nil {
			return fault.Wrap(err, "vmdk: empty the disk's files")
		}
	}
	return nil
}

// Clone shares blocks with the file that toOff is in, if that can.
func (j *joinedOutput) Clone(from *os.File, fromOff, toOff, n int64) error {
	to, ok := j.files[toOff/j.span].(image.CloneOutput)
	if !ok {
		return image.Unsupportedf("vmdk: blocks cannot be shared with the disk's files")
	}
	return to.Clone(from, fromOff, toOff%j.span, n)
}
