package inflate

import "encoding/binary"

const (
	// Far from the ends of src and dst an iteration of fast needs no check: it reads two words of eight bytes, the second at most seven bytes
	// after the first, and writes at most two literals and a match of 258 bytes, whose copy may run past its end by up to 15 bytes.
	fastInput  = 16
	fastOutput = 258 + 2 + 16
)

// fast decodes symbols as long as both ends are far. It keeps the state in local variables, which is most of its speed and the reason why
// it is one function. It reports whether the block ended.
func (d *Decoder) fast() (end bool, err error) {
	src, dst := d.src, d.dst
	ip, op, hold, n := d.ip, d.op, d.hold, d.n
	inEnd, outEnd := len(src)-fastInput, len(dst)-fastOutput
	hold &= 1<<n - 1

	for ip <= inEnd && op <= outEnd {
		hold |= binary.LittleEndian.Uint64(src[ip:]) << (n & 63)
		ip += int((63 - n) >> 3)
		n |= 56

		// Up to three literals whose codes are in the main table take at most 33 of at least 56 bits.
		e := d.lit[hold&(1<<litBits-1)]
		if e&entryLiteral != 0 {
			hold >>= e & 63
			n -= uint(e & 63)
			dst[op] = byte(e >> 16)
			op++
			e = d.lit[hold&(1<<litBits-1)]
			if e&entryLiteral != 0 {
				hold >>= e & 63
				n -= uint(e & 63)
				dst[op] = byte(e >> 16)
				op++
				e = d.lit[hold&(1<<litBits-1)]
				if e&entryLiteral != 0 {
					hold >>= e & 63
					n -= uint(e & 63)
					dst[op] = byte(e >> 16)
					op++
					continue
				}
			}
		}
		if e&entrySpecial != 0 {
			if e&entryLink != 0 {
				hold >>= litBits
				n -= litBits
				e = d.lit[uint64(e>>16)+hold&(1<<(e>>8&15)-1)]
				if e&entryLiteral != 0 {
					hold >>= e & 63
					n -= uint(e & 63)
					dst[op] = byte(e >> 16)
					op++
					continue
				}
			}
			if e&entryEnd != 0 {
				hold >>= e & 63
				n -= uint(e & 63)
				end = true
				break
			}
			if e&entryInvalid != 0 {
				err = ErrCorrupt
				break
			}
		}
		length := int(e>>16) + int(hold&(1<<(e&63)-1)>>(e>>8&15))
		hold >>= e & 63
		n -= uint(e & 63)

		hold |= binary.LittleEndian.Uint64(src[ip:]) << (n & 63)
		ip += int((63 - n) >> 3)
		n |= 56
		e = d.dist[hold&(1<<distBits-1)]
		if e&entrySpecial != 0 {
			if e&entryLink != 0 {
				hold >>= distBits
				n -= distBits
				e = d.dist[uint64(e>>16)+hold&(1<<(e>>8&15)-1)]
			}
			if e&entryInvalid != 0 {
				err = ErrCorrupt
				break
			}
		}
		distance := int(e>>16) + int(hold&(1<<(e&63)-1)>>(e>>8&15))
		hold >>= e & 63
		n -= uint(e & 63)
		if distance > op {
			err = ErrCorrupt
			break
		}
		stop := op + length
		if distance >= 8 {
			from := op - distance
			for {
				binary.LittleEndian.PutUint64(dst[op:], binary.LittleEndian.Uint64(dst[from:]))
				op += 8
				from += 8
				if op >= stop {
					break
				}
			}
		} else {
			spread(dst[op-distance:stop], distance)
		}
		op = stop
	}
	d.ip, d.op, d.hold, d.n = ip, op, hold, n
	return end, err
}

// spread repeats the first distance bytes of p over the whole of p.
func spread(p []byte, distance int) {
	if distance == 1 {
		b := p[0]
		for i := range p {
			p[i] = b
		}
		return
	}
	for i := distance; i < len(p); i++ {
		p[i] = p[i-distance]
	}
}

// careful decodes one symbol and checks everything. It reports whether the block ended.
func (d *Decoder) careful() (end bool, err error) {
	e, err := d.entry(d.lit[:], litBits)
	if err != nil {
		return false, err
	}
	value := int(e >> 16 & 0x7fff)
	switch {
	case e&entryEnd != 0:
		return true, nil
	case e&entryLiteral != 0:
		if d.op == len(d.dst) {
			return false, ErrTooLong
		}
		d.dst[d.op] = byte(value)
		d.op++
		return false, nil
	}
	length, err := d.withExtra(e)
	if err != nil {
		return false, err
	}
	if e, err = d.entry(d.dist[:], distBits); err != nil {
		return false, err
	}
	distance, err := d.withExtra(e)
	if err != nil {
		return false, err
	}
	if distance > d.op {
		return false, ErrCorrupt
	}
	if length > len(d.dst)-d.op {
		return false, ErrTooLong
	}
	spread(d.dst[d.op-distance:d.op+length], distance)
	d.op += length
	return false, nil
}

// entry finds the entry of the next code in a table and takes the code's bits.
func (d *Decoder) entry(table []uint32, mainBits uint) (uint32, error) {
	if d.n < maxBits {
		d.fill()
	}
	hold, take := d.hold, uint(0)
	e := table[hold&(1<<mainBits-1)]
	if e&entryLink != 0 {
		take = mainBits
		e = table[uint64(e>>16)+hold>>mainBits&(1<<(e>>8&15)-1)]
	}
	if e&entryInvalid != 0 {
		// With too few bits left the code may only look invalid.
		if take+1 > d.n {
			return 0, ErrShortInput
		}
		return 0, ErrCorrupt
	}
	take += uint(e >> 8 & 15)
	_, err := d.bits(take)
	return e, err
}

// withExtra reads a length's or distance's extra bits and returns its value.
func (d *Decoder) withExtra(e uint32) (int, error) {
	extra, err := d.bits(uint(e&63) - uint(e>>8&15))
	return int(e>>16&0x7fff) + int(extra), err
}
