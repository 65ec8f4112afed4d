package vmdk

import (
	"encoding/binary"

	"github.com/hyperplane-project/hyperplane/converters/image"
)

// COWD is the kind of sparse extent in which ESX keeps the delta disks of snapshots (vmfsSparse). All numbers are little-endian, of 32 bits, and count
// sectors: magic, version, flags, capacity, grain size, sector of the grain directory, its number of entries, next free sector. libyal's description of the
// format, "COWD sparse extent data file".
const (
	cowdMagic         = "COWD"
	cowdHeader        = 4 * sectorSize // the whole of it; most is text
	cowdTableEntries  = 4096
	cowdAtVersion     = 4
	cowdAtCapacity    = 12
	cowdAtGrain       = 16
	cowdAtDirectory   = 20
	cowdAtEntries     = 24
	cowdAtUnclean     = 1648
	cowdHeaderSectors = cowdHeader / sectorSize
)

func openCOWD(f image.File, line extentLine, cache *caches) (content, error) {
	b := make([]byte, cowdHeader)
	if err := image.ReadFull(f, b, 0, "vmdk: COWD header"); err != nil {
		return nil, err
	}
	number := func(at int) uint32 { return binary.LittleEndian.Uint32(b[at:]) }
	if v := number(cowdAtVersion); v != 1 {
		return nil, image.Unsupportedf("vmdk: COWD extent of version %d; only 1 is read", v)
	}
	grain := number(cowdAtGrain)
	if grain == 0 || grain > maxGrainSectors || grain&(grain-1) != 0 {
		return nil, image.Corruptf("vmdk: COWD grain size of %d sectors at offset %d is not a power of two up to %d", grain, cowdAtGrain, maxGrainSectors)
	}
	g := &grains{
		f: f, caches: cache, entries: cowd{}, size: int64(number(cowdAtCapacity)) * sectorSize, grain: int64(grain) * sectorSize,
		perTable: cowdTableEntries, width: 4,
	}
	if number(cowdAtUnclean) != 0 {
		g.warnings = append(g.warnings, "vmdk: the COWD extent was not closed cleanly")
	}
	if err := g.start(); err != nil {
		return nil, err
	}
	if n := int64(number(cowdAtEntries)); n < g.directoryEntries() {
		return nil, image.Corruptf("vmdk: the COWD grain directory has %d entries, a disk of %d bytes needs %d", n, g.size, g.directoryEntries())
	}
	if at := number(cowdAtDirectory); !g.addDirectory(uint64(at)) && g.size > 0 {
		return nil, image.Truncatedf("vmdk: the COWD grain directory of %d bytes at sector %d reaches past the end of the file at %d",
			g.directorySize(), at, f.Size())
	}
	return g, line.checkCapacity(g.size)
}

// cowd is what the table entries of a COWD extent mean: numbers of sectors. There is no word for zeros.
type cowd struct{}

func (cowd) table(entry []byte) (int64, error) {
	kind, off, err := cowd{}.lookup(entry)
	if kind == image.Hole {
		off = 0
	}
	return off, err
}

func (cowd) lookup(entry []byte) (image.Kind, int64, error) {
	switch n := binary.LittleEndian.Uint32(entry); {
	case n == 0:
		return image.Hole, -1, nil
	case n < cowdHeaderSectors:
		return 0, 0, image.Corruptf("vmdk: a table entry of the COWD extent names sector %d, which is the header's", n)
	default:
		return image.Data, int64(n) * sectorSize, nil
	}
}
