package ova

import (
	"io"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// section is a member as a file of its own. Closing it closes the archive.
type section struct {
	image.File
	m member
}

// Size returns the member's size.
func (s *section) Size() int64 { return s.m.size }

// Name returns the archive's and the member's name.
func (s *section) Name() string { return s.File.Name() + ":" + s.m.name }

// ReadAt reads the member.
func (s *section) ReadAt(p []byte, off int64) (int, error) {
	return io.NewSectionReader(s.File, s.m.off, s.m.size).ReadAt(p, off)
}

// BytesRead returns how much of the archive was read, or 0 if it does not count.
func (s *section) BytesRead() int64 { return image.BytesRead(s.File) }

// disk is a disk of the archive.
type disk struct {
	image.Reader
	info image.Info
}

// chunkDisk is a disk that can hand out its compressed content.
type chunkDisk struct {
	image.ChunkReader
	info image.Info
}

func (d disk) Info() image.Info      { return d.info }
func (d chunkDisk) Info() image.Info { return d.info }

// wrap makes the disk say that it lies in an archive.
func wrap(r image.Reader, f image.File, disks []member) image.Reader {
	info := r.Info()
	info.Variant, info.Format = info.Format+" "+info.Variant, name
	info.FileSize, info.Members = f.Size(), names(disks)
	if c, ok := r.(image.ChunkReader); ok {
		return chunkDisk{c, info}
	}
	return disk{r, info}
}

func names(disks []member) []string {
	var all []string
	for _, d := range disks {
		all = append(all, d.name)
	}
	return all
}

// contents describes an archive of several disks, none of which was chosen.
type contents struct {
	image.File
	info image.Info
}

func describe(f image.File, disks []member) image.Reader {
	return contents{f, image.Info{Format: name, FileSize: f.Size(), Members: names(disks)}}
}

func (c contents) Info() image.Info { return c.info }

// NextExtent fails: no disk was chosen.
func (c contents) NextExtent(int64) (image.Extent, error) {
	return image.Extent{}, fault.New(fault.FailedPrecondition, "ova: no member was chosen")
}
