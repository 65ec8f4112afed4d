package vhdx

import (
	"encoding/binary"
	"slices"

	"github.com/hyperplane-project/hyperplane/converters/image"
)

const (
	regions1At      = 192 << 10
	regions2At      = 256 << 10
	regionTableSize = 64 << 10
	regionSignature = "regi"
	regionEntry     = 32
	maxRegions      = 2047
)

// region is a part of the file that is no block.
type region struct {
	id       string
	at, size int64
	required bool
}

// readRegions reads the first region table that has a right checksum.
func readRegions(f image.File) ([]region, []string, error) {
	b := make([]byte, regionTableSize)
	var warnings []string
	for _, at := range []int64{regions1At, regions2At} {
		if err := image.ReadFull(f, b, at, "vhdx region table"); err != nil {
			return nil, nil, err
		}
		if sound(b, regionSignature) {
			all, err := parseRegions(b, f.Size())
			return all, warnings, err
		}
		warnings = []string{"vhdx: the first region table is damaged; the second is used"}
	}
	return nil, nil, image.Corruptf("vhdx: neither region table, at offsets %d and %d, has a right checksum", regions1At, regions2At)
}

func parseRegions(b []byte, size int64) ([]region, error) {
	le := binary.LittleEndian
	n := le.Uint32(b[8:])
	if n > maxRegions {
		return nil, image.Corruptf("vhdx: the region table has %d entries, more than %d", n, maxRegions)
	}
	var all []region
	for i := range int64(n) {
		e := b[16+i*regionEntry:][:regionEntry]
		at, length := le.Uint64(e[16:]), le.Uint32(e[24:])
		r := region{id: guid(e[:16]).String(), at: int64(at), size: int64(length), required: le.Uint32(e[28:])&1 != 0}
		switch {
		case at > maxFile || at < mib || at%mib != 0 || length == 0 || length%mib != 0:
			return nil, image.Corruptf("vhdx: region %s of %d bytes at offset %d does not lie in whole MiB behind the first", r.id, length, at)
		case r.required && r.id != regionBAT && r.id != regionMetadata:
			return nil, image.Unsupportedf("vhdx: the image has region %s, which is not known and must be", r.id)
		case r.at > size-r.size && (r.id == regionBAT || r.id == regionMetadata):
			return nil, image.Truncatedf("vhdx: region %s of %d bytes at offset %d reaches past the end of the file at %d", r.id, length, at, size)
		}
		all = append(all, r)
	}
	return all, nil
}

// reserve adds the log to the regions and refuses regions that overlap or that are named twice.
func reserve(all []region, h *header) ([]region, error) {
	if h.logSize > 0 {
		all = append(all, region{id: "log", at: h.logAt, size: h.logSize})
	}
	slices.SortFunc(all, func(a, b region) int { return int(min(1, max(-1, a.at-b.at))) })
	seen := map[string]bool{}
	for i, r := range all {
		if i > 0 && r.at < all[i-1].at+all[i-1].size {
			return nil, image.Corruptf("vhdx: region %s at offset %d overlaps region %s at %d", r.id, r.at, all[i-1].id, all[i-1].at)
		}
		if seen[r.id] {
			return nil, image.Corruptf("vhdx: there are two regions %s", r.id)
		}
		seen[r.id] = true
	}
	return all, nil
}

// findRegion returns the region with the given id.
func findRegion(all []region, id string) (region, error) {
	i := slices.IndexFunc(all, func(r region) bool { return r.id == id })
	if i < 0 {
		return region{}, image.Corruptf("vhdx: there is no region %s", id)
	}
	return all[i], nil
}
