package vmdk

import (
	"errors"
	"sort"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// joined is the content of a disk of several extents.
type joined struct {
	f      image.File // the descriptor
	parts  []part
	caches *caches
}

var _ content = (*joined)(nil)

// part is an extent's content and its place in the disk, in bytes.
type part struct {
	content
	start, size int64
}

// at returns the part that holds off, which is inside the disk. Parts may be empty.
func (j *joined) at(off int64) (part, error) {
	i := sort.Search(len(j.parts), func(i int) bool { return j.parts[i].start+j.parts[i].size > off })
	if i == len(j.parts) {
		return part{}, fault.New(fault.FailedPrecondition, "vmdk: the disk was opened for its description only")
	}
	return j.parts[i], nil
}

// Extent returns the run that begins at off, no longer than limit. Runs end where an extent of the disk ends.
func (j *joined) Extent(off, limit int64) (image.Extent, error) {
	p, err := j.at(off)
	if err != nil {
		return image.Extent{}, err
	}
	e, err := p.Extent(off-p.start, min(limit, p.start+p.size-off))
	e.Off += p.start
	return e, err
}

// ReadCompressed fills buf from off; the range is inside one compressed extent.
func (j *joined) ReadCompressed(buf []byte, off int64) error {
	p, err := j.at(off)
	if err != nil {
		return err
	}
	return p.ReadCompressed(buf, off-p.start)
}

// BytesRead counts what was read of all files.
func (j *joined) BytesRead() int64 {
	n := image.BytesRead(j.f)
	for _, p := range j.parts {
		n += p.BytesRead()
	}
	return n
}

// Close closes all files.
func (j *joined) Close() error { return errors.Join(j.f.Close(), j.closeExtents()) }

func (j *joined) closeExtents() error {
	var errs []error
	for _, p := range j.parts {
		errs = append(errs, p.Close())
	}
	return errors.Join(errs...)
}
