package imagetest

import (
	"encoding/binary"
	"io"
	"math/rand/v2"

	"github.com/hyperplane-project/hyperplane/converters/image"
)

// Content is what a piece of a test disk holds.
type Content uint8

// The kinds of content.
const (
	// Random does not compress.
	Random Content = iota
	// Text compresses about as well as a program does.
	Text
	// Zeros are data that happen to be zeros: a copy should leave them out.
	Zeros
)

// Piece is a part of a test disk that holds something. What no piece covers is a hole.
type Piece struct {
	Off, Len int64
	Content  Content
}

// Disk is a disk of any size whose content follows from the offset. It is an image.Reader that cannot fail.
type Disk struct {
	Size   int64
	Pieces []Piece // ascending, not overlapping
}

var _ image.Reader = (*Disk)(nil)

// RandomDisk makes a disk of the given size with pieces of all kinds at offsets that are no multiple of anything.
func RandomDisk(seed uint64, size int64) *Disk {
	r := rand.New(rand.NewPCG(seed, 0))
	d := &Disk{Size: size}
	for off := r.Int64N(70_000); off < size; {
		n := min(1+r.Int64N(300_000), size-off)
		d.Pieces = append(d.Pieces, Piece{off, n, Content(r.IntN(3))})
		off += n + r.Int64N(400_000)
	}
	return d
}

// Info describes the disk.
func (d *Disk) Info() image.Info {
	return image.Info{Format: "test", VirtualSize: d.Size, FileSize: -1}
}

// Close does nothing.
func (d *Disk) Close() error { return nil }

// NextExtent returns the run or hole that begins at off.
func (d *Disk) NextExtent(off int64) (image.Extent, error) {
	if err := image.CheckOffset(off, d.Size); err != nil {
		return image.Extent{}, err
	}
	for _, r := range d.Pieces {
		switch {
		case off < r.Off:
			return image.Extent{Off: off, Len: r.Off - off, Kind: image.Hole, Host: -1}, nil
		case off < r.Off+r.Len:
			return image.Extent{Off: off, Len: r.Off + r.Len - off, Kind: image.Data, Host: -1}, nil
		}
	}
	return image.Extent{Off: off, Len: d.Size - off, Kind: image.Hole, Host: -1}, nil
}

// ReadAt reads the disk.
func (d *Disk) ReadAt(p []byte, off int64) (n int, err error) {
	if off >= d.Size {
		return 0, io.EOF
	}
	if rest := d.Size - off; int64(len(p)) > rest {
		p, err = p[:rest], io.EOF
	}
	clear(p)
	for _, r := range d.Pieces {
		from, to := max(r.Off, off), min(r.Off+r.Len, off+int64(len(p)))
		if from < to {
			r.Content.fill(p[from-off:to-off], from)
		}
	}
	return len(p), err
}

// words are what Text is made of.
var words = [8]string{"the disk ", "\x48\x89\xe5\x41\x54\x53", "image ", "\x00\x00\x00\x01", "sector=", "0x7f45\n", "lorem ", "\xff\xff\xff\xff"}

// fill writes the content of the disk's offset off to p.
func (c Content) fill(p []byte, off int64) {
	if c == Zeros {
		clear(p)
		return
	}
	var b [16]byte
	for i := 0; i < len(p); {
		at := off + int64(i)
		x := mix(uint64(at / 16))
		if c == Random {
			binary.LittleEndian.PutUint64(b[:], x)
			binary.LittleEndian.PutUint64(b[8:], mix(x))
		} else {
			b = [16]byte{}
			copy(b[copy(b[:], words[x&7]):], words[x>>3&7])
			b[15] = byte(x >> 8)
		}
		i += copy(p[i:], b[at%16:])
	}
}

// mix is the finaliser of splitmix64.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
