// Package inflate decodes raw deflate streams (RFC 1951) whose largest output is known beforehand, from memory to memory in one call.
// That is what compressed clusters and grains of disk images are, and it allows a decoder about twice as fast as a streaming one: there is no
// window besides the output itself, and far from the ends of both buffers nothing needs to be checked symbol by symbol.
//
// It accepts and refuses the same streams as compress/flate; a fuzz test compares the two.
package inflate

import (
	"encoding/binary"
	"errors"
)

// The ways a stream can be wrong.
var (
	// ErrCorrupt is returned for a stream that breaks the format.
	ErrCorrupt = errors.New("deflate stream is damaged")
	// ErrShortInput is returned for a stream that ends before its last block does.
	ErrShortInput = errors.New("deflate stream ends early")
	// ErrTooLong is returned for a stream that decodes to more bytes than the output has room for.
	ErrTooLong = errors.New("deflate stream is longer than its unit")
)

// Decoder holds the tables of a decoder, so that they need not be allocated for each stream. It is used by one goroutine at a time. The zero
// value is ready.
type Decoder struct {
	lit  [litTableSize]uint32
	dist [distTableSize]uint32
	pre  [preTableSize]uint32
	lens [maxLit + maxDist]uint8
	// fixed says that lit and dist hold the fixed codes.
	fixed bool

	src  []byte
	dst  []byte
	ip   int    // next byte of src
	op   int    // next byte of dst
	hold uint64 // bits taken from src and not used yet, the next one lowest
	n    uint   // how many of them count
}

// Decode decodes the stream at the start of src into dst. It returns how many bytes it wrote and how many bytes of src the stream takes;
// what follows the stream is not looked at. A stream that decodes to more than len(dst) bytes is an error.
func (d *Decoder) Decode(dst, src []byte) (written, used int, err error) {
	d.src, d.dst, d.ip, d.op, d.hold, d.n = src, dst, 0, 0, 0, 0
	err = d.blocks()
	written, used = d.op, d.ip-int(d.n/8)
	d.src, d.dst = nil, nil
	return written, used, err
}

// blocks decodes blocks up to and including the last.
func (d *Decoder) blocks() error {
	for {
		head, err := d.bits(3)
		if err != nil {
			return err
		}
		switch head >> 1 {
		case 0:
			err = d.stored()
		case 1:
			d.useFixed()
			err = d.symbols()
		case 2:
			if err = d.readCodes(); err == nil {
				err = d.symbols()
			}
		default:
			err = ErrCorrupt
		}
		if err != nil || head&1 == 1 {
			return err
		}
	}
}

// fill takes bytes from src until hold has at least 56 bits or src is used up.
func (d *Decoder) fill() {
	if len(d.src)-d.ip >= 8 {
		d.hold |= binary.LittleEndian.Uint64(d.src[d.ip:]) << (d.n & 63)
		d.ip += int((63 - d.n) >> 3)
		d.n |= 56
		// Bits above n are those that the next fill reads again.
		return
	}
	d.hold &= 1<<d.n - 1
	for d.n < 56 && d.ip < len(d.src) {
		d.hold |= uint64(d.src[d.ip]) << d.n
		d.ip++
		d.n += 8
	}
}

// bits returns the next n bits, at most 32.
func (d *Decoder) bits(n uint) (uint, error) {
	if d.n < n {
		if d.fill(); d.n < n {
			return 0, ErrShortInput
		}
	}
	v := uint(d.hold) & (1<<n - 1)
	d.hold >>= n
	d.n -= n
	return v, nil
}

// stored copies a block that is not compressed.
func (d *Decoder) stored() error {
	// The block starts at a byte boundary; whole bytes in hold go back.
	d.ip -= int(d.n / 8)
	d.hold, d.n = 0, 0
	if len(d.src)-d.ip < 4 {
		d.ip = len(d.src)
		return ErrShortInput
	}
	size := int(binary.LittleEndian.Uint16(d.src[d.ip:]))
	if size != int(^binary.LittleEndian.Uint16(d.src[d.ip+2:])) {
		return ErrCorrupt
	}
	d.ip += 4
	if size > len(d.src)-d.ip {
		return ErrShortInput
	}
	if size > len(d.dst)-d.op {
		return ErrTooLong
	}
	copy(d.dst[d.op:], d.src[d.ip:d.ip+size])
	d.ip += size
	d.op += size
	return nil
}

// symbols decodes the symbols of a compressed block with the tables lit and dist, up to and including its end.
func (d *Decoder) symbols() error {
	for {
		end, err := d.fast()
		if end || err != nil {
			return err
		}
		// Near the end of src or dst symbols are decoded one at a time. Far from both, one careful symbol is enough to go on.
		if end, err = d.careful(); end || err != nil {
			return err
		}
	}
}
