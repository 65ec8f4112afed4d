package vmdk

import (
	"context"

	"github.com/hyperplane-project/hyperplane/converters/image"
)

// records walks the records of a stream and compares them with the tables.
func (x *examination) records(ctx context.Context) error {
	met, err := x.walk(ctx)
	if err != nil {
		return err
	}
	var entries int64
	err = x.eachGrain(ctx, x.damage, func(_, _, _ int64) error {
		entries++
		return nil
	})
	if err != nil || entries == met {
		return err
	}
	found := x.found
	err = x.eachGrain(ctx, nil, x.named)
	if err == nil && x.found == found {
		x.add(image.Corruption, -1, "the grain tables name %d grains, %d of them are not records of the stream", entries, entries-met)
	}
	return err
}

// named examines the record that a table entry names.
func (x *examination) named(at, off, host int64) error {
	m, ok, err := x.marker(host)
	switch {
	case err != nil:
		return err
	case !ok || int64(m.size) > x.f.Size()-host-grainMarkerSize:
		x.add(image.Corruption, at, "the grain of offset %d is at offset %d and reaches past the end of the file at %d", off, host, x.f.Size())
	case m.size == 0 || int64(m.size) > x.h.maxRecord() || m.value != uint64(off/sectorSize):
		x.add(image.Corruption, at, "the grain of offset %d should be at offset %d, where none for it begins", off, host)
	}
	return nil
}

// marker reads the marker at the offset. ok is false if the file has none there.
func (x *examination) marker(at int64) (m marker, ok bool, err error) {
	if at > x.f.Size()-sectorSize {
		return marker{}, false, nil
	}
	var b [16]byte
	err = image.ReadFull(x.f, b[:], at, "vmdk: marker")
	return parseMarker(b[:]), err == nil, err
}

// walk goes from record to record and returns how many grains it met that are where their tables say.
func (x *examination) walk(ctx context.Context) (met int64, err error) {
	size := x.f.Size()
	at := int64(min(x.h.overhead, uint64(size)/sectorSize)) * sectorSize
	for n := int64(0); at < size; n++ {
		if err := pause(ctx, n); err != nil {
			return 0, err
		}
		m, ok, err := x.marker(at)
		if err != nil {
			return 0, err
		}
		if !ok {
			x.add(image.Corruption, at, "the file ends inside a marker")
			return met, nil
		}
		if m.size == 0 && m.kind == markerEnd {
			x.ended(at + sectorSize)
			return met, nil
		}
		next := x.after(m, at)
		if next == 0 {
			return met, nil
		}
		if m.size > 0 && x.isPlaced(m, at) {
			met++
		}
		at = next
	}
	if x.h.directoryOffset >= x.h.overhead {
		x.add(image.Corruption, size, "the stream has no end marker")
	}
	return met, nil
}

// after returns the offset behind the record that begins at the offset at, or 0 if that is no record.
func (x *examination) after(m marker, at int64) int64 {
	sectors := m.value + 1
	switch {
	case m.size > 0:
		sectors = uint64(ceil(grainMarkerSize+int64(m.size), sectorSize))
	case m.kind > markerProgress:
		x.add(image.Corruption, at, "there is no record of kind %d; what follows was not looked at", m.kind)
		return 0
	}
	if rest := uint64(x.f.Size()-at) / sectorSize; sectors == 0 || sectors > rest {
		x.add(image.Corruption, at, "the record reaches past the end of the file at %d", x.f.Size())
		return 0
	}
	return at + int64(sectors)*sectorSize
}

// isPlaced reports whether the tables name the grain whose record is at the offset. If not, nothing reads it.
func (x *examination) isPlaced(m marker, at int64) bool {
	if m.value >= x.h.capacity || m.value%x.h.grainSize != 0 {
		x.add(image.Corruption, at, "the record is for sector %d, which is no grain of a disk of %d sectors", m.value, x.h.capacity)
		return false
	}
	off := int64(m.value) * sectorSize
	table, err := x.table(off / x.cover())
	if err == nil && table != 0 {
		if host, err := x.host(table, off); err == nil && host == at {
			return true
		}
	}
	x.add(image.Leak, at, "the record is for the grain of offset %d, which the tables do not have here", off)
	return false
}

// ended looks at what follows the end marker. QEMU fills the file up with zeros, by less than a grain.
func (x *examination) ended(at int64) {
	if rest := x.f.Size() - at; rest >= x.grain {
		x.add(image.Leak, at, "%d bytes follow the end marker", rest)
	}
}
