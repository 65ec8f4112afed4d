package gobcache

// cursor takes a part of a stream apart. bad says that it is not what it should be; what is taken then means nothing.
type cursor struct {
	rest []byte
	bad  bool
}

func (c *cursor) uint() uint64 {
	if len(c.rest) > 0 && c.rest[0] < 0x80 { // nearly always
		v := c.rest[0]
		c.rest = c.rest[1:]
		return uint64(v)
	}
	v, n, err := number64(c.rest)
	if err != nil {
		c.fail()
		return 0
	}
	c.rest = c.rest[n:]
	return v
}

func (c *cursor) int() int64 {
	v := c.uint()
	if v&1 != 0 { // the lowest bit is the sign
		return ^int64(v >> 1)
	}
	return int64(v >> 1)
}

// skip takes a text and returns its length.
func (c *cursor) skip() uint64 {
	n := c.uint()
	if n > uint64(len(c.rest)) {
		c.fail()
		return 0
	}
	c.rest = c.rest[n:]
	return n
}

func (c *cursor) text() string {
	before := c.rest
	n := c.skip()
	if c.bad {
		return ""
	}
	before = before[:len(before)-len(c.rest)]
	return string(before[uint64(len(before))-n:])
}

// steps takes a struct of so many fields; take is called for those that are there.
func (c *cursor) steps(fields int, take func(field int)) {
	for at := -1; !c.bad; {
		step := c.uint()
		if step == 0 {
			return
		}
		if step > uint64(fields-1-at) {
			c.fail()
			return
		}
		at += int(step)
		take(at)
	}
}

// end takes the end of a struct.
func (c *cursor) end() {
	if c.uint() != 0 {
		c.fail()
	}
}

func (c *cursor) fail() { c.bad, c.rest = true, nil }
