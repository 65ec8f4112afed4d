package engine

import (
	"context"
	"os"

	"github.com/hyperplane-project/hyperplane/converters/image"
)

// cloneBlock is the alignment that file systems with shared blocks ask of a clone: XFS's and btrfs's usual block size.
const cloneBlock = 4096

// cloner shares blocks of the source's file with the output instead of copying them. A nil cloner never wants to.
type cloner struct {
	to   image.CloneOutput
	size int64 // of the virtual disk
}

// newCloner returns a cloner if the two files are on one file system that can clone, which it finds out by trying. Nothing is left in the output.
// copy_file_range is not used in its place: where it does not clone it is no faster than reading and writing.
func newCloner(ctx context.Context, c *copier) (*cloner, error) {
	to, can := c.out.(image.CloneOutput)
	if !can || c.placer == nil || c.opts.Base != nil || c.opts.Replay != nil || c.alloc%cloneBlock != 0 {
		return nil, nil
	}
	k := &cloner{to: to, size: c.size}
	for e, err := range c.extents(ctx, 0) {
		if err != nil {
			return nil, err
		}
		if !k.wants(e) || e.Len < cloneBlock {
			continue
		}
		if to.Clone(localFile(e), e.Host, 0, cloneBlock) != nil {
			return nil, nil
		}
		return k, c.out.Truncate(0)
	}
	return nil, nil
}

// localFile returns the local file in which e's plain content lies, or nil.
func localFile(e image.Extent) *os.File {
	if b, ok := e.In.(image.Backed); ok {
		return b.OS()
	}
	return nil
}

// wants reports whether e may be cloned: it lies in whole blocks on both sides, or ends where the disk ends.
func (k *cloner) wants(e image.Extent) bool {
	return k != nil && localFile(e) != nil && e.Kind == image.Data && !e.Compressed && e.Host >= 0 && e.Host%cloneBlock == 0 && e.Off%cloneBlock == 0 &&
		(e.Len%cloneBlock == 0 || e.Off+e.Len == k.size)
}

// cloneRuns clones the runs that were left for it. What cannot be cloned after all is read, to be written with the rest.
func (k *worker) cloneRuns(w *window) error {
	kept := k.clones[:0]
	for _, e := range k.clones {
		if k.cloneRun(w, e) {
			kept = append(kept, e)
			continue
		}
		if err := k.load(w, e); err != nil {
			return err
		}
	}
	k.clones = kept
	return nil
}

// cloneRun clones one run piece by piece as it was placed.
func (k *worker) cloneRun(w *window, e image.Extent) bool {
	for _, s := range k.spans {
		start, end := max(e.Off-w.off, s.from), min(e.Off+e.Len-w.off, s.to)
		if start >= end {
			continue
		}
		err := k.clone.to.Clone(localFile(e), e.Host+start-(e.Off-w.off), s.host+start-s.from, end-start)
		if err != nil {
			return false
		}
	}
	return true
}
