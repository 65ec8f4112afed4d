package vmdk

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/hyperplane-project/hyperplane/converters/image"
)

// maxFindings bounds the report.
const maxFindings = 1000

var _ image.Checker = (*single)(nil)

// examination is the state of one Check.
type examination struct {
	*sparse
	report func(image.Finding)
	found  int
}

// Check compares the grain tables with their copies and with the file. Of a disk of plain grains it finds entries that point outside the file, grains
// that share room, and room that no grain has; of a stream it walks the markers and compares them with the tables.
func (r *single) Check(ctx context.Context, report func(image.Finding)) error {
	x := &examination{sparse: r.sparse, report: report}
	if err := x.check(); err != nil {
		return x.damage(err, x.directories[0])
	}
	if err := x.copies(ctx); err != nil {
		return err
	}
	if x.compressed {
		return x.records(ctx)
	}
	return x.plainGrains(ctx)
}

func (x *examination) add(severity image.Severity, off int64, format string, args ...any) {
	if x.found++; x.found <= maxFindings {
		x.report(image.Finding{Severity: severity, Offset: off, Text: "vmdk: " + fmt.Sprintf(format, args...)})
	}
}

// damage reports err, which reading gave, if it says that the file is damaged. Other errors are returned.
func (x *examination) damage(err error, off int64) error {
	if !damaged(err) {
		return err
	}
	if x.found++; x.found <= maxFindings {
		x.report(image.Finding{Severity: image.Corruption, Offset: off, Text: err.Error()})
	}
	return nil
}

func damaged(err error) bool {
	return errors.Is(err, image.ErrCorrupt) || errors.Is(err, image.ErrTruncated)
}

// pause looks at the context from time to time.
func pause(ctx context.Context, n int64) error {
	if n%4096 != 0 {
		return nil
	}
	return ctx.Err()
}

// eachTable calls fn with the number and the offset of each grain table that there is. Those outside the file copies has reported.
func (x *examination) eachTable(ctx context.Context, fn func(i, off int64) error) error {
	for i := range x.directoryEntries() {
		if err := pause(ctx, i); err != nil {
			return err
		}
		off, err := x.table(i)
		if err == nil && off != 0 {
			err = fn(i, off)
		} else if damaged(err) {
			err = nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// eachGrain calls fn with the offset in the file of the table entry, the offset in the disk and the offset in the file of each grain that has content.
// wrong, if not nil, is told of entries that mean nothing.
func (x *examination) eachGrain(ctx context.Context, wrong func(err error, at int64) error, fn func(at, off, host int64) error) error {
	return x.eachTable(ctx, func(i, table int64) error {
		for e := int64(0); e < x.perTable; e++ {
			off := i*x.cover() + e*x.grain
			if off >= x.size {
				return nil
			}
			b, err := x.from(table, off)
			if err != nil {
				return err
			}
			if n := x.unused(b); n > 0 {
				e += n - 1
				continue
			}
			kind, host, err := x.entries.lookup(b)
			switch {
			case err != nil && wrong != nil:
				err = wrong(err, table+e*x.width)
			case damaged(err):
				err = nil
			case err == nil && kind == image.Data:
				err = fn(table+e*x.width, off, host)
			}
			if err != nil {
				return err
			}
		}
		return ctx.Err()
	})
}

// copies looks for each grain table in both grain directories and compares what it finds.
func (x *examination) copies(ctx context.Context) error {
	if at := x.h.directoryOffset; x.size > 0 && x.directories[0] != int64(at)*sectorSize {
		x.add(image.Corruption, -1, "the grain directory at sector %d is not inside the file; its copy is used", at)
	}
	if x.h.flags&flagRedundant != 0 && x.size > 0 && len(x.directories) == 1 && x.directories[0] == int64(x.h.directoryOffset)*sectorSize {
		x.add(image.Corruption, -1, "the redundant grain directory at sector %d is not inside the file", x.h.redundantOffset)
	}
	primary, redundant := make([]byte, x.tableSize()), make([]byte, x.tableSize())
	for i := range x.directoryEntries() {
		if err := pause(ctx, i); err != nil {
			return err
		}
		if err := x.compareCopies(i, primary, redundant); err != nil {
			return err
		}
	}
	return nil
}

// compareCopies reads grain table i from all directories.
func (x *examination) compareCopies(i int64, primary, redundant []byte) error {
	into := [][]byte{primary, redundant}
	var found []int64
	for n, directory := range x.directories {
		off, err := x.tableIn(directory, i)
		if err == nil && off != 0 {
			err = image.ReadFull(x.f, into[n], off, "vmdk: grain table")
		}
		if err != nil {
			if err := x.damage(err, directory+i*x.width); err != nil {
				return err
			}
			continue
		}
		found = append(found, off)
	}
	switch {
	case len(found) < 2:
	case (found[0] == 0) != (found[1] == 0):
		x.add(image.Corruption, x.directories[0]+i*x.width, "grain table %d is in one of the two grain directories only", i)
	case found[0] != 0 && !bytes.Equal(primary, redundant):
		x.add(image.Corruption, found[0], "grain table %d and its copy at offset %d differ", i, found[1])
	}
	return nil
}
