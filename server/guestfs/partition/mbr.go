package partition

import (
	"encoding/binary"
	"io"
)

const (
	entriesOffset = 446
	entrySize     = 16
	primaries     = 4
	signature     = 0xAA55
	protective    = 0xEE
	// maxLogical bounds the chain of extended boot records, which may lead in circles.
	maxLogical = 128
)

// entry is an entry of an MBR or an extended boot record.
type entry struct {
	status, kind byte
	first, count uint32
}

func entryAt(sector []byte, i int) entry {
	e := sector[entriesOffset+i*entrySize:]
	return entry{status: e[0], kind: e[4], first: binary.LittleEndian.Uint32(e[8:]), count: binary.LittleEndian.Uint32(e[12:])}
}

func (e entry) empty() bool { return e.kind == 0 || e.count == 0 }

func (e entry) extended() bool { return e.kind == 0x05 || e.kind == 0x0F || e.kind == 0x85 }

// isMBR tells a table from the boot sector of a file system, which has the same signature: its entries have a status, and one of them is in use.
func isMBR(sector []byte) bool {
	if binary.LittleEndian.Uint16(sector[510:]) != signature {
		return false
	}
	used := false
	for i := range primaries {
		e := entryAt(sector, i)
		if e.status != 0 && e.status != 0x80 {
			return false
		}
		used = used || !e.empty()
	}
	return used
}

func hasProtective(sector []byte) bool {
	for i := range primaries {
		if entryAt(sector, i).kind == protective {
			return true
		}
	}
	return false
}

func readMBR(r io.ReaderAt, sector []byte, size int64) (Table, error) {
	t := Table{Kind: MBR}
	for i := range primaries {
		e := entryAt(sector, i)
		if e.empty() {
			continue
		}
		p, err := check(i+1, uint64(e.first), uint64(e.count), size)
		if err != nil {
			return Table{}, err
		}
		if !e.extended() {
			t.Partitions = append(t.Partitions, p)
			continue
		}
		logical, err := readLogical(r, p, size)
		if err != nil {
			return Table{}, err
		}
		t.Partitions = append(t.Partitions, logical...)
	}
	return t, nil
}

// readLogical follows the chain of an extended partition.
func readLogical(r io.ReaderAt, extended Partition, size int64) ([]Partition, error) {
	var all []Partition
	base := uint64(extended.Start / SectorSize)
	for at, n := base, 0; ; n++ {
		if n == maxLogical {
			return nil, invalid("the extended partition has more than %d logical ones", maxLogical)
		}
		var sector [SectorSize]byte
		if at >= uint64(size/SectorSize) {
			return nil, invalid("an extended boot record lies at sector %d, outside of the disk", at)
		}
		if _, err := r.ReadAt(sector[:], int64(at)*SectorSize); err != nil {
			return nil, err
		}
		if binary.LittleEndian.Uint16(sector[510:]) != signature {
			return all, nil // an extended partition that nobody has used yet
		}
		if e := entryAt(sector[:], 0); !e.empty() {
			p, err := check(primaries+1+len(all), at+uint64(e.first), uint64(e.count), size)
			if err != nil {
				return nil, err
			}
			all = append(all, p)
		}
		next := entryAt(sector[:], 1)
		if next.empty() || !next.extended() {
			return all, nil
		}
		at = base + uint64(next.first)
	}
}

// setMBREnd changes the length of a primary partition. The entry is within one sector, which disks write as a whole.
func setMBREnd(d Disk, number int, end int64) error {
	if number > primaries {
		return invalid("partition %d is a logical one, which can not be resized", number)
	}
	var sector [SectorSize]byte
	if _, err := d.ReadAt(sector[:], 0); err != nil {
		return err
	}
	e := entryAt(sector[:], number-1)
	binary.LittleEndian.PutUint32(sector[entriesOffset+(number-1)*entrySize+12:], uint32(end-int64(e.first)))
	_, err := d.WriteAt(sector[:], 0)
	return err
}
