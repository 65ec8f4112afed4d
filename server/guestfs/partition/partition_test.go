package partition_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/hyperplane-project/hyperplane/server/guestfs/partition"
)

const sectors = 4096

// mbr makes a disk with the entries: type, first sector, number of sectors.
func mbr(entries ...[3]uint32) []byte {
	d := make([]byte, sectors*partition.SectorSize)
	record(d, 0, entries...)
	return d
}

func record(d []byte, sector int, entries ...[3]uint32) {
	s := d[sector*partition.SectorSize:]
	for i, e := range entries {
		at := s[446+16*i:]
		at[4] = byte(e[0])
		binary.LittleEndian.PutUint32(at[8:], e[1])
		binary.LittleEndian.PutUint32(at[12:], e[2])
	}
	s[510], s[511] = 0x55, 0xAA
}

// gpt makes a disk with partitions: first and last sector.
func gpt(parts ...[2]uint64) []byte {
	d := mbr([3]uint32{0xEE, 1, sectors - 1})
	entries := make([]byte, 128*128)
	for i, p := range parts {
		e := entries[128*i:]
		copy(e, bytes.Repeat([]byte{0xAB}, 32))
		binary.LittleEndian.PutUint64(e[32:], p[0])
		binary.LittleEndian.PutUint64(e[40:], p[1])
	}
	header(d, entries, 1, sectors-1, 2)
	header(d, entries, sectors-1, 1, sectors-33)
	return d
}

func header(d, entries []byte, at, other, entriesAt uint64) {
	copy(d[entriesAt*512:], entries)
	h := d[at*512 : at*512+92]
	copy(h, "EFI PART\x00\x00\x01\x00\x5C\x00\x00\x00")
	for off, v := range map[int]uint64{24: at, 32: other, 40: 34, 48: sectors - 34, 72: entriesAt, 80: 128 | 128<<32} {
		binary.LittleEndian.PutUint64(h[off:], v)
	}
	binary.LittleEndian.PutUint32(h[88:], crc32.ChecksumIEEE(entries))
	binary.LittleEndian.PutUint32(h[16:], 0)
	binary.LittleEndian.PutUint32(h[16:], crc32.ChecksumIEEE(h))
}

func extended() []byte {
	d := mbr([3]uint32{0x83, 64, 64}, [3]uint32{0x05, 1024, 2048})
	record(d, 1024, [3]uint32{0x83, 8, 100}, [3]uint32{0x05, 512, 600})
	record(d, 1536, [3]uint32{0x83, 8, 200})
	return d
}

func part(n int, first, count int64) partition.Partition {
	return partition.Partition{Number: n, Start: first * 512, Size: count * 512}
}

func TestRead(t *testing.T) {
	t.Parallel()
	damaged := gpt([2]uint64{64, 127})
	damaged[512+20]++
	circle := extended()
	record(circle, 1536, [3]uint32{0x83, 8, 200}, [3]uint32{0x05, 0, 600})
	for name, c := range map[string]struct {
		disk []byte
		kind partition.Kind
		want []partition.Partition
		bad  bool
	}{
		"nothing":                    {disk: make([]byte, 4096)},
		"too small":                  {disk: make([]byte, 512)},
		"no size":                    {},
		"mbr":                        {disk: mbr([3]uint32{0x83, 64, 100}, [3]uint32{}, [3]uint32{0x82, 200, 10}), kind: partition.MBR, want: []partition.Partition{part(1, 64, 100), part(3, 200, 10)}},
		"logical partitions":         {disk: extended(), kind: partition.MBR, want: []partition.Partition{part(1, 64, 64), part(5, 1032, 100), part(6, 1544, 200)}},
		"a circle":                   {disk: circle, bad: true},
		"behind the end":             {disk: mbr([3]uint32{0x83, sectors, 1}), bad: true},
		"beyond the end":             {disk: mbr([3]uint32{0x83, 64, sectors}), bad: true},
		"overflow":                   {disk: mbr([3]uint32{0x83, 1<<32 - 1, 1<<32 - 1}), bad: true},
		"over the table":             {disk: mbr([3]uint32{0x83, 0, 64}), bad: true},
		"gpt":                        {disk: gpt([2]uint64{64, 127}, [2]uint64{128, 200}), kind: partition.GPT, want: []partition.Partition{part(1, 64, 64), part(2, 128, 73)}},
		"gpt backup":                 {disk: damaged, kind: partition.GPT, want: []partition.Partition{part(1, 64, 64)}},
		"gpt backwards":              {disk: gpt([2]uint64{64, 63}), bad: true},
		"gpt beyond the end":         {disk: gpt([2]uint64{64, sectors}), bad: true},
		"gpt overflow":               {disk: gpt([2]uint64{0, 1<<64 - 1}), bad: true},
		"gpt without a header":       {disk: mbr([3]uint32{0xEE, 1, sectors - 1}), bad: true},
		"a boot sector of something": {disk: append(bytes.Repeat([]byte{0x90}, 510), append([]byte{0x55, 0xAA}, make([]byte, 4096)...)...)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := partition.Read(bytes.NewReader(c.disk), int64(len(c.disk)))
			if (err != nil) != c.bad || (err != nil && !errors.Is(err, partition.ErrInvalid)) {
				t.Fatalf("error: %v", err)
			}
			if got.Kind != c.kind {
				t.Errorf("kind %d, want %d", got.Kind, c.kind)
			}
			if diff := cmp.Diff(c.want, got.Partitions, cmpopts.EquateEmpty()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// memory is a disk in memory. Writes outside of it fail.
type memory []byte

func (m memory) ReadAt(p []byte, off int64) (int, error) { return bytes.NewReader(m).ReadAt(p, off) }

func (m memory) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 || off+int64(len(p)) > int64(len(m)) {
		return 0, errors.New("outside of the disk")
	}
	return copy(m[off:], p), nil
}

func TestSetEnd(t *testing.T) {
	t.Parallel()
	for name, disk := range map[string][]byte{"mbr": mbr([3]uint32{0x83, 64, 64}, [3]uint32{0x83, 128, 64}), "gpt": gpt([2]uint64{64, 127}, [2]uint64{128, 191})} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := append(memory(disk), make(memory, len(disk))...)
			for _, size := range []int64{2 * sectors * 512, sectors / 2 * 512} {
				table, err := partition.Read(d, int64(len(d)))
				if err != nil {
					t.Fatal(err)
				}
				end := table.Room(size)
				if err := table.SetEnd(d, 2, end, size); err != nil {
					t.Fatal(err)
				}
				d = d[:size]
				for _, damage := range []int{0, 512} { // both copies of a GPT
					c := bytes.Clone(d)
					if name == "gpt" && damage > 0 {
						c[damage]++
					}
					got, err := partition.Read(memory(c), size)
					if diff := cmp.Diff([]partition.Partition{part(1, 64, 64), part(2, 128, end/512-128)}, got.Partitions); diff != "" || err != nil {
						t.Errorf("%d bytes: %v\n%s", size, err, diff)
					}
				}
			}
			table, err := partition.Read(d, int64(len(d)))
			if err != nil {
				t.Fatal(err)
			}
			for _, end := range []int64{0, 128 * 512, int64(len(d)) + 512, 130*512 + 1} {
				if err := table.SetEnd(d, 2, end, int64(len(d))); !errors.Is(err, partition.ErrInvalid) {
					t.Errorf("end %d: %v", end, err)
				}
			}
			if err := table.SetEnd(d, 3, 200*512, int64(len(d))); !errors.Is(err, partition.ErrInvalid) {
				t.Errorf("no such partition: %v", err)
			}
		})
	}
}

func FuzzRead(f *testing.F) {
	for _, seed := range [][]byte{mbr([3]uint32{0x83, 64, 64}), extended(), gpt([2]uint64{64, 127}), nil} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, disk []byte) {
		size := int64(len(disk))
		table, err := partition.Read(bytes.NewReader(disk), size)
		if err != nil {
			return
		}
		for _, p := range table.Partitions {
			if p.Start <= 0 || p.Size <= 0 || p.Start+p.Size > size {
				t.Errorf("partition %+v of a disk of %d bytes", p, size)
			}
		}
		if last, ok := table.Last(); ok {
			_ = table.SetEnd(memory(disk), last.Number, table.Room(size), size)
		}
	})
}
