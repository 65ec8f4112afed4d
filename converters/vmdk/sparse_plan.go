package vmdk

import (
	"iter"
	"math"

	"github.com/hyperplane-project/hyperplane/converters/image"
)

// plan writes all metadata, front to back, for grains that will be placed in the order of the runs.
func (f *sparseFile) plan(runs iter.Seq2[image.Run, error]) error {
	f.planned = true
	if err := f.writeHeader(); err != nil {
		return err
	}
	for _, d := range f.directories() {
		if err := f.writeDirectory(d); err != nil {
			return err
		}
		if err := f.planTables(runs, d); err != nil {
			return err
		}
	}
	return nil
}

// planTables writes the grain tables that belong to the grain directory at the given sector, save those without entries.
func (f *sparseFile) planTables(runs iter.Seq2[image.Run, error], directory uint64) error {
	var table grainTable
	open := int64(-1) // the table that is being filled
	next := f.head.overhead
	for run, err := range runs {
		if err != nil {
			return err
		}
		for g := run.Off / f.head.grain(); g*f.head.grain() < run.Off+run.Len; g++ {
			if i := g / entriesPerTable; i != open {
				if err := f.writePlanned(&table, directory, open); err != nil {
					return err
				}
				table, open = grainTable{}, i
			}
			if next > math.MaxUint32 {
				return image.Limitf("vmdk: the file would exceed 2 TiB, the most that 32-bit sector numbers can address; choose %s", streamOptimized)
			}
			table[g%entriesPerTable] = uint32(next)
			next += f.head.grainSize
		}
	}
	return f.writePlanned(&table, directory, open)
}

func (f *sparseFile) writePlanned(t *grainTable, directory uint64, i int64) error {
	if i < 0 {
		return nil
	}
	return f.writeTable(t, directory, i)
}
