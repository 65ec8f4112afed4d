package vdi

import (
	"context"
	"fmt"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/internal/bitset"
)

// maxFindings bounds the report of one kind of damage.
const maxFindings = 1000

// examination is the state of one Check.
type examination struct {
	*reader
	report    func(image.Finding)
	found     int
	blocks    bitset.Set // of the file, in use
	allocated int64
}

// Check compares the block map with the file: entries that point outside, blocks that are used twice or not at all, and the header's count.
func (r *reader) Check(ctx context.Context, report func(image.Finding)) error {
	x := &examination{reader: r, report: report}
	err := r.eachBlock(func(i, block int64) error {
		if i%(64<<10) == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		return x.entry(i, block)
	})
	if err != nil {
		return err
	}
	if int64(r.h.allocated) != x.allocated {
		x.add(image.Corruption, atAllocated, "the header counts %d allocated blocks, the map has %d", r.h.allocated, x.allocated)
	}
	return x.leaks(ctx)
}

func (x *examination) add(severity image.Severity, off int64, format string, args ...any) {
	if x.found++; x.found <= maxFindings {
		x.report(image.Finding{Severity: severity, Offset: off, Text: "vdi: " + fmt.Sprintf(format, args...)})
	}
}

// entry examines the map's entry for block i of the disk.
func (x *examination) entry(i, block int64) error {
	x.allocated++
	at := x.h.mapAt + i*4
	if need := min(x.h.block, x.h.size-i*x.h.block); x.h.host(block) > x.f.Size()-need {
		x.add(image.Corruption, at, "block %d of the disk is block %d of the file, which is past the end of the file", i, block)
		return nil
	}
	added, full := x.blocks.Add(block)
	if full {
		return image.Limitf("vdi: the blocks of the file are too many, or too scattered, to be checked")
	}
	if !added {
		x.add(image.Corruption, at, "block %d of the disk is block %d of the file, which another one has too", i, block)
	}
	return nil
}

// leaks reports the runs of the file's blocks that the map does not name.
func (x *examination) leaks(ctx context.Context) error {
	present := max(0, x.f.Size()-x.h.dataAt) / (x.h.extra + x.h.block)
	first := int64(-1)
	for i := int64(0); i <= present; i++ {
		if i%(64<<10) == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		free := false
		if i < present {
			var full bool
			if free, full = x.blocks.Add(i); full {
				return image.Limitf("vdi: a file of %d blocks is too large to be checked for blocks that nothing uses", present)
			}
		}
		switch {
		case free && first < 0:
			first = i
		case !free && first >= 0:
			x.add(image.Leak, x.h.host(first)-x.h.extra, "%d blocks of the file from block %d on are not in use", i-first, first)
			first = -1
		}
	}
	return nil
}
