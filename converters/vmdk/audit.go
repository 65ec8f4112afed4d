package vmdk

import (
	"encoding/binary"
	"hash/maphash"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/internal/bitset"
)

// audit compares the grains of a stream with its grain tables. Both may be large and come in any order, so only a sum of keyed hashes of
// (index in the table, sector) is kept for each table: equal sets have equal sums, and without the key nobody can make other sets with the same sum.
type audit struct {
	seed        maphash.Seed
	perTable    int64
	seen        bitset.Set
	grains      map[int64]sum // by index of the grain table
	tables      map[int64]sum // by sector of the grain table
	maxTables   int64
	directory   []uint32
	directoryAt int64 // sector, 0 before it was seen
}

// sum is what is known of the entries of one table.
type sum struct {
	hash  uint64
	count int
}

func newAudit(h *header) audit {
	return audit{
		seed: maphash.MakeSeed(), perTable: int64(h.tableEntries), grains: map[int64]sum{}, tables: map[int64]sum{},
		maxTables: h.directoryEntries(),
	}
}

func (a *audit) add(s sum, index int64, sector uint32) sum {
	var b [12]byte
	binary.LittleEndian.PutUint64(b[:], uint64(index))
	binary.LittleEndian.PutUint32(b[8:], sector)
	return sum{s.hash + maphash.Bytes(a.seed, b[:]), s.count + 1}
}

// grain notes that grain n of the disk begins at the given sector of the stream.
func (a *audit) grain(n, sector int64) error {
	switch added, full := a.seen.Add(n); {
	case full:
		return image.Limitf("vmdk: the stream's grains are spread over too large a disk")
	case !added:
		return image.Corruptf("vmdk: grain %d comes a second time, at sector %d of the stream", n, sector)
	case sector > 1<<32-1:
		return image.Limitf("vmdk: sector %d of the stream is beyond what 32-bit sector numbers can address", sector)
	}
	i := n / a.perTable
	a.grains[i] = a.add(a.grains[i], n%a.perTable, uint32(sector))
	return nil
}

// table notes the grain table at the given sector of the stream.
func (a *audit) table(sector int64, b []byte) error {
	if int64(len(a.tables)) >= a.maxTables {
		return image.Corruptf("vmdk: the grain table at sector %d of the stream is one more than the disk has", sector)
	}
	var s sum
	for i := range a.perTable {
		// 1 is a grain of zeros that has no data.
		if e := binary.LittleEndian.Uint32(b[i*4:]); e > 1 {
			s = a.add(s, i, e)
		}
	}
	a.tables[sector] = s
	return nil
}

// finish compares what came with what the tables say.
func (a *audit) finish() error {
	if a.directoryAt == 0 {
		return image.Corruptf("vmdk: the stream has no grain directory")
	}
	for i, sector := range a.directory {
		got := a.grains[int64(i)]
		if sector == 0 {
			if got.count > 0 {
				return image.Corruptf("vmdk: the stream has %d grains for grain table %d, which does not exist", got.count, i)
			}
			continue
		}
		want, ok := a.tables[int64(sector)]
		switch {
		case !ok:
			return image.Corruptf("vmdk: the grain directory says that table %d is at sector %d, where none was", i, sector)
		case got.count < want.count:
			return image.Truncatedf("vmdk: grain table %d has %d grains, the stream only %d of them", i, want.count, got.count)
		case got != want:
			return image.Corruptf("vmdk: grain table %d does not agree with the grains of the stream", i)
		}
	}
	return nil
}
