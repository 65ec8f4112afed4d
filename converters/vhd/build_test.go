package vhd_test

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"
	"unicode/utf16"
)

const (
	sector  = 512
	block   = 4096 // the blocks of images made here: small, so that images are
	unused  = 1<<32 - 1
	headAt  = sector
	tableAt = headAt + 1024
)

// disk is an image made by hand. The zero value of what is not set is what a good image has.
type disk struct {
	size    uint64
	kind    uint32 // 3 is dynamic, 4 is differencing
	creator string
	// chs is the geometry; 0 is one that says nothing.
	chs uint32
	id  byte
	// blocks are the blocks of the disk that are in the file, in the file's order.
	blocks []stored
	// parent is the parent's id, and the names are the forms of its name.
	parent                      byte
	unicode, relative, absolute string
}

// stored is a block in the file: its number, its bitmap, and the byte it is filled with.
type stored struct {
	i      uint32
	bitmap byte // of the eight sectors
	fill   byte
}

// sum is the format's checksum of b, without the four bytes at the given place.
func sum(b []byte, at int) uint32 {
	var n uint32
	for i, x := range b {
		if i < at || i >= at+4 {
			n += uint32(x)
		}
	}
	return ^n
}

func (d disk) footer() []byte {
	be := binary.BigEndian
	b := make([]byte, sector)
	copy(b, "conectix")
	be.PutUint32(b[8:], 2)
	be.PutUint32(b[12:], 0x10000)
	be.PutUint64(b[16:], headAt)
	copy(b[28:], d.creator)
	be.PutUint64(b[40:], d.size)
	be.PutUint64(b[48:], d.size)
	be.PutUint32(b[56:], d.chs)
	be.PutUint32(b[60:], d.kind)
	b[68] = d.id
	return sealFooter(b)
}

func sealFooter(b []byte) []byte {
	binary.BigEndian.PutUint32(b[64:], sum(b[:sector], 64))
	return b
}

func sealHeader(b []byte) []byte {
	h := b[headAt:][:1024]
	binary.BigEndian.PutUint32(h[36:], sum(h, 36))
	return b
}

// bytes returns the image: footer, header, table, parent locators, blocks, footer.
func (d disk) bytes() []byte {
	be := binary.BigEndian
	entries := (d.size + block - 1) / block
	h := make([]byte, 1024)
	copy(h, "cxsparse")
	be.PutUint64(h[8:], 1<<64-1)
	be.PutUint64(h[16:], tableAt)
	be.PutUint32(h[24:], 0x10000)
	be.PutUint32(h[28:], uint32(entries))
	be.PutUint32(h[32:], block)
	h[40] = d.parent
	copy(h[64:576], encode16(d.unicode, be))
	table := bytes.Repeat([]byte{0xff}, int((entries*4+sector-1)/sector*sector))
	rest := d.locators(h, tableAt+len(table))
	for _, b := range d.blocks {
		be.PutUint32(table[b.i*4:], uint32((tableAt+len(table)+len(rest))/sector))
		rest = append(rest, b.bitmap)
		rest = append(rest, make([]byte, sector-1)...)
		rest = append(rest, bytes.Repeat([]byte{b.fill}, block)...)
	}
	be.PutUint32(h[36:], sum(h, 36))
	return bytes.Join([][]byte{d.footer(), h, table, rest, d.footer()}, nil)
}

// locators enters the parent's names into the header and returns the sectors they take, of which the first is at offset at.
func (d disk) locators(h []byte, at int) []byte {
	var room []byte
	entry := h[576:]
	for platform, name := range map[string]string{"W2ru": d.relative, "W2ku": d.absolute} {
		if name == "" {
			continue
		}
		text := encode16(name, binary.LittleEndian)
		copy(entry, platform)
		binary.BigEndian.PutUint32(entry[4:], 1)
		binary.BigEndian.PutUint32(entry[8:], uint32(len(text)))
		binary.BigEndian.PutUint64(entry[16:], uint64(at+len(room)))
		room = append(room, append(text, make([]byte, sector-len(text))...)...)
		entry = entry[24:]
	}
	return room
}

func encode16(s string, order binary.AppendByteOrder) []byte {
	var b []byte
	for _, u := range utf16.Encode([]rune(s)) {
		b = order.AppendUint16(b, u)
	}
	return b
}

// save writes b to a file of the folder and returns its path.
func save(t *testing.T, dir, name string, b []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
