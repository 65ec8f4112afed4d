package vhd

import (
	"sync"

	"github.com/hyperplane-project/hyperplane/converters/image"
)

// cachedBitmaps is how many bitmaps are kept. The largest has 64 KiB.
const cachedBitmaps = 64

// bitmaps reads the bitmaps of blocks and keeps the last ones, each in the one place its offset gives it. It is safe for concurrent use.
type bitmaps struct {
	f    image.File
	size int64

	mu   sync.Mutex
	kept [cachedBitmaps]struct {
		at   int64 // 0 is none: there the file has its footer
		bits []byte
	}
}

// run reports whether the given sector of the block at offset at is in this file, and for how many sectors from there the same holds. A bitmap that does
// not end before end is refused.
func (m *bitmaps) run(at, sector, end int64) (here bool, n int64, err error) {
	if at > end-m.size {
		return false, 0, image.Truncatedf("vhd: the bitmap of a block at offset %d reaches past %d, where the blocks end", at, end)
	}
	bits, err := m.get(at)
	if err != nil {
		return false, 0, err
	}
	here = bit(bits, sector)
	same := byte(0)
	if here {
		same = 0xff
	}
	last := int64(len(bits)) * 8
	for n = 1; sector+n < last; {
		if next := sector + n; next%8 == 0 && bits[next/8] == same {
			n += 8
			continue
		}
		if bit(bits, sector+n) != here {
			break
		}
		n++
	}
	return here, n, nil
}

// bit returns bit i, of which the first of a byte is the most significant.
func bit(bits []byte, i int64) bool { return bits[i/8]>>(7-i%8)&1 == 1 }

func (m *bitmaps) get(at int64) ([]byte, error) {
	slot := &m.kept[at/sectorSize%cachedBitmaps]
	m.mu.Lock()
	if slot.at == at && slot.bits != nil {
		defer m.mu.Unlock()
		return slot.bits, nil
	}
	m.mu.Unlock()
	bits := make([]byte, m.size)
	if err := image.ReadFull(m.f, bits, at, "vhd block bitmap"); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	slot.at, slot.bits = at, bits
	return bits, nil
}
