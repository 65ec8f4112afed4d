// Package partition reads partition tables that a guest wrote, and moves the end of a partition in them. It believes nothing: every number is checked
// against the disk before it is used. Sectors have 512 bytes.
//
// Formats: UEFI Specification 2.10, chapter 5 (GPT and protective MBR); the four entries of the MBR and the chain of extended boot records are those of
// the PC BIOS.
package partition

import (
	"errors"
	"fmt"
	"io"
	"slices"
)

// SectorSize is the size of a sector in bytes.
const SectorSize = 512

// Kind is the kind of a partition table.
type Kind uint8

// The kinds.
const (
	// None says that there is no table; the disk may be one file system.
	None Kind = iota
	MBR
	GPT
)

// ErrInvalid is in the chain of every error about what a table says.
var ErrInvalid = errors.New("partition table is not valid")

// Partition is a part of a disk. Start and Size are in bytes.
type Partition struct {
	Number      int
	Start, Size int64
}

// Table is the partition table of a disk. Partitions are in the order of their numbers.
type Table struct {
	Kind       Kind
	Partitions []Partition
	gpt        *gpt
}

// Read reads the table of a disk of size bytes. A disk without one has a Table of kind None.
func Read(r io.ReaderAt, size int64) (Table, error) {
	if size < 2*SectorSize {
		return Table{}, nil
	}
	var sector [SectorSize]byte
	if _, err := r.ReadAt(sector[:], 0); err != nil {
		return Table{}, err
	}
	if !isMBR(sector[:]) {
		return Table{}, nil
	}
	if hasProtective(sector[:]) {
		return readGPT(r, size)
	}
	return readMBR(r, sector[:], size)
}

// Last returns the partition that ends the table: the one with the highest start. ok is false if there is none.
func (t Table) Last() (last Partition, ok bool) {
	for _, p := range t.Partitions {
		if !ok || p.Start > last.Start {
			last, ok = p, true
		}
	}
	return last, ok
}

// Room returns the offset in bytes that the last partition of this table may end at on a disk of size bytes. 0 = this kind of table can not be changed.
func (t Table) Room(size int64) int64 {
	sectors := size / SectorSize
	switch t.Kind {
	case GPT:
		return max(0, sectors-1-t.gpt.tableSectors()) * SectorSize
	case MBR:
		return min(sectors, 1<<32-1) * SectorSize
	default:
		return 0
	}
}

// Disk is a disk whose table is changed.
type Disk interface {
	io.ReaderAt
	io.WriterAt
}

// SetEnd makes the partition with the number end at end, in bytes, on a disk that has, or is about to have, size bytes. The backup of a GPT moves to that
// disk's end. A reader finds a whole table at every moment.
func (t Table) SetEnd(d Disk, number int, end, size int64) error {
	i := slices.IndexFunc(t.Partitions, func(p Partition) bool { return p.Number == number })
	if i < 0 {
		return invalid("there is no partition %d", number)
	}
	if end <= t.Partitions[i].Start || end > t.Room(size) || end%SectorSize != 0 {
		return invalid("partition %d can not end at byte %d", number, end)
	}
	if t.Kind == MBR {
		return setMBREnd(d, number, end/SectorSize)
	}
	for _, p := range t.Partitions {
		if p.Start < (2+t.gpt.tableSectors())*SectorSize || (p.Number != number && p.Start+p.Size > t.Room(size)) {
			return invalid("partition %d lies where the table must be", p.Number)
		}
	}
	return t.gpt.setEnd(d, number, end/SectorSize, size/SectorSize)
}

// check refuses a partition outside of the disk.
func check(number int, first, count uint64, size int64) (Partition, error) {
	sectors := uint64(size / SectorSize)
	if count == 0 || first == 0 || first >= sectors || count > sectors-first {
		return Partition{}, invalid("partition %d has %d sectors from sector %d; the disk has %d", number, count, first, sectors)
	}
	return Partition{Number: number, Start: int64(first) * SectorSize, Size: int64(count) * SectorSize}, nil
}

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, args...))
}
