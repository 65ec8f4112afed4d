package vmdk

import (
	"context"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/internal/bitset"
)

// occupancy says which parts of the file behind the metadata are in use.
type occupancy struct {
	from  int64 // where the metadata ends, bytes
	unit  int64 // what a bit stands for: as much as divides all places, at most a grain
	parts bitset.Set
}

// plainGrains examines the entries of all grain tables and the room they leave.
func (x *examination) plainGrains(ctx context.Context) error {
	o := &occupancy{from: int64(min(x.h.overhead, uint64(x.f.Size())/sectorSize)) * sectorSize}
	unit, err := x.raster(ctx, o.from)
	if err != nil {
		return err
	}
	o.unit = unit
	err = x.eachGrain(ctx, x.damage, func(at, off, host int64) error { return x.occupy(o, at, off, host) })
	if err != nil {
		return err
	}
	return x.leaks(ctx, o)
}

// raster returns the largest power of two by whose multiples all grains are away from the end of the metadata, at most a grain.
func (x *examination) raster(ctx context.Context, from int64) (int64, error) {
	all := x.grain
	err := x.eachGrain(ctx, nil, func(_, _, host int64) error {
		all |= host - from
		return nil
	})
	return all & -all, err
}

// occupy notes that the grain of the disk's offset off is at host, which the table entry at the offset at says.
func (x *examination) occupy(o *occupancy, at, off, host int64) error {
	switch need := min(x.grain, x.size-off); {
	case host > x.f.Size()-need:
		x.add(image.Corruption, at, "the content of offset %d is at offset %d, past the end of the file at %d", off, host, x.f.Size())
		return nil
	case host < o.from:
		x.add(image.Corruption, at, "the content of offset %d is at offset %d, inside the metadata, which ends at %d", off, host, o.from)
		return nil
	}
	shared := false
	for n := range x.grain / o.unit {
		added, full := o.parts.Add((host-o.from)/o.unit + n)
		if full {
			return tooScattered()
		}
		shared = shared || !added
	}
	if shared {
		x.add(image.Corruption, at, "the content of offset %d is at offset %d, which other content has too", off, host)
	}
	return nil
}

// leaks reports the runs behind the metadata that no grain has. A rest shorter than a grain is padding.
func (x *examination) leaks(ctx context.Context, o *occupancy) error {
	end := (x.f.Size() - o.from) / x.grain * x.grain / o.unit
	first := int64(-1)
	for i := int64(0); i <= end; i++ {
		if err := pause(ctx, i); err != nil {
			return err
		}
		free := false
		if i < end {
			added, full := o.parts.Add(i)
			if full {
				return tooScattered()
			}
			free = added
		}
		switch {
		case free && first < 0:
			first = i
		case !free && first >= 0:
			x.add(image.Leak, o.from+first*o.unit, "%d bytes from here on belong to no grain", (i-first)*o.unit)
			first = -1
		}
	}
	return nil
}

func tooScattered() error {
	return image.Limitf("vmdk: the grains of the file are too many, or too scattered, to be checked")
}
