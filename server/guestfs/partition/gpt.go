package partition

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"slices"
)

// Offsets in the header (UEFI 2.10, table 5-5).
const (
	headerMin     = 92
	offHeaderSize = 12
	offCRC        = 16
	offCurrent    = 24
	offBackup     = 32
	offLastUsable = 48
	offEntries    = 72
	offCount      = 80
	offEntrySize  = 84
	offEntriesCRC = 88
	// Offsets in an entry (table 5-6).
	offFirst = 32
	offLast  = 40

	minEntrySize, maxEntrySize = 128, 4096
	maxEntries                 = 1024
)

// gpt is what is needed to write a table anew.
type gpt struct {
	header, entries []byte
	entrySize       int
}

// readGPT reads the table at the disk's beginning or, if that is damaged, the one at its end.
func readGPT(r io.ReaderAt, size int64) (Table, error) {
	t, err := gptAt(r, 1, size)
	if errors.Is(err, ErrInvalid) {
		if backup, backupErr := gptAt(r, uint64(size/SectorSize)-1, size); backupErr == nil {
			return backup, nil
		}
	}
	return t, err
}

func gptAt(r io.ReaderAt, lba uint64, size int64) (Table, error) {
	var sector [SectorSize]byte
	if _, err := r.ReadAt(sector[:], int64(lba)*SectorSize); err != nil {
		return Table{}, err
	}
	header, err := checkHeader(sector[:], lba)
	if err != nil {
		return Table{}, err
	}
	g, err := readEntries(r, header, size)
	if err != nil {
		return Table{}, err
	}
	t := Table{Kind: GPT, gpt: g}
	for i := range len(g.entries) / g.entrySize {
		e := g.entries[i*g.entrySize:]
		if bytes.Equal(e[:16], make([]byte, 16)) { // no type: not in use
			continue
		}
		first, last := binary.LittleEndian.Uint64(e[offFirst:]), binary.LittleEndian.Uint64(e[offLast:])
		if last < first || last == 1<<64-1 {
			return Table{}, invalid("partition %d begins at sector %d and ends at sector %d", i+1, first, last)
		}
		p, err := check(i+1, first, last-first+1, size)
		if err != nil {
			return Table{}, err
		}
		t.Partitions = append(t.Partitions, p)
	}
	return t, nil
}

func checkHeader(sector []byte, lba uint64) ([]byte, error) {
	if !bytes.HasPrefix(sector, []byte("EFI PART")) {
		return nil, invalid("the GPT has no header at sector %d", lba)
	}
	n := binary.LittleEndian.Uint32(sector[offHeaderSize:])
	if n < headerMin || n > SectorSize {
		return nil, invalid("the GPT's header has %d bytes", n)
	}
	header := slices.Clone(sector[:n])
	sum := binary.LittleEndian.Uint32(header[offCRC:])
	binary.LittleEndian.PutUint32(header[offCRC:], 0)
	if crc32.ChecksumIEEE(header) != sum {
		return nil, invalid("the checksum of the GPT's header is wrong")
	}
	if at := binary.LittleEndian.Uint64(header[offCurrent:]); at != lba {
		return nil, invalid("the GPT's header at sector %d says that it lies at sector %d", lba, at)
	}
	return header, nil
}

func readEntries(r io.ReaderAt, header []byte, size int64) (*gpt, error) {
	at, count := binary.LittleEndian.Uint64(header[offEntries:]), binary.LittleEndian.Uint32(header[offCount:])
	each := binary.LittleEndian.Uint32(header[offEntrySize:])
	sectors := uint64(size / SectorSize)
	if count > maxEntries || each < minEntrySize || each > maxEntrySize || each%8 != 0 {
		return nil, invalid("the GPT has %d entries of %d bytes", count, each)
	}
	g := &gpt{header: header, entries: make([]byte, count*each), entrySize: int(each)}
	if at < 2 || at >= sectors || uint64(g.tableSectors()) > sectors-at {
		return nil, invalid("the GPT's entries lie at sector %d; the disk has %d", at, sectors)
	}
	if _, err := r.ReadAt(g.entries, int64(at)*SectorSize); err != nil {
		return nil, err
	}
	if crc32.ChecksumIEEE(g.entries) != binary.LittleEndian.Uint32(header[offEntriesCRC:]) {
		return nil, invalid("the checksum of the GPT's entries is wrong")
	}
	return g, nil
}

// tableSectors is how many sectors the entries take.
func (g *gpt) tableSectors() int64 { return int64((len(g.entries) + SectorSize - 1) / SectorSize) }

// setEnd writes the backup first: while the table at the beginning is written, which takes two writes, that one is whole.
func (g *gpt) setEnd(d Disk, number int, end, sectors int64) error {
	entries := slices.Clone(g.entries)
	binary.LittleEndian.PutUint64(entries[(number-1)*g.entrySize+offLast:], uint64(end-1))
	header := slices.Clone(g.header)
	binary.LittleEndian.PutUint64(header[offLastUsable:], uint64(sectors-1-g.tableSectors()-1))
	binary.LittleEndian.PutUint32(header[offEntriesCRC:], crc32.ChecksumIEEE(entries))
	const primary, primaryEntries = 1, 2
	backup, backupEntries := sectors-1, sectors-1-g.tableSectors()
	if err := writeGPT(d, header, entries, backup, primary, backupEntries); err != nil {
		return err
	}
	if err := writeGPT(d, header, entries, primary, backup, primaryEntries); err != nil {
		return err
	}
	return setProtective(d, sectors)
}

func writeGPT(d Disk, header, entries []byte, at, other, entriesAt int64) error {
	sector := make([]byte, SectorSize)
	h := sector[:copy(sector, header)]
	binary.LittleEndian.PutUint64(h[offCurrent:], uint64(at))
	binary.LittleEndian.PutUint64(h[offBackup:], uint64(other))
	binary.LittleEndian.PutUint64(h[offEntries:], uint64(entriesAt))
	binary.LittleEndian.PutUint32(h[offCRC:], crc32.ChecksumIEEE(h)) // the field itself is zero in header
	if _, err := d.WriteAt(entries, entriesAt*SectorSize); err != nil {
		return err
	}
	_, err := d.WriteAt(sector, at*SectorSize)
	return err
}

// setProtective has the protective partition cover the disk. Only where it is the only one: a hybrid table is somebody's own work.
func setProtective(d Disk, sectors int64) error {
	var sector [SectorSize]byte
	if _, err := d.ReadAt(sector[:], 0); err != nil {
		return err
	}
	for i := range primaries {
		if e := entryAt(sector[:], i); !e.empty() && e.kind != protective {
			return nil
		}
	}
	for i := range primaries {
		if entryAt(sector[:], i).kind == protective {
			binary.LittleEndian.PutUint32(sector[entriesOffset+i*entrySize+12:], uint32(min(sectors-1, 1<<32-1)))
		}
	}
	_, err := d.WriteAt(sector[:], 0)
	return err
}
