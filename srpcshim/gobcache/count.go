package gobcache

import (
	"reflect"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

const (
	// maxDepth bounds the nesting of values. Messages of the protocol have 6 levels; gob itself goes as deep as the message, until the stack is full.
	maxDepth = 64
	// spare, perByte and most bound the memory that a message becomes, beside as much as it has bytes. An empty struct is one byte in a stream, and may be
	// hundreds in memory; a list of 65536 addresses takes 6 bytes for one.
	spare   = 256 << 10
	perByte = 10
	most    = 8 << 20
)

// Guard checks the messages of one stream before gob decodes them: gob makes lists and maps as large as the stream says they are, whatever comes then, skips
// maps of nothing as often as it is told to, and follows nested values to the end of the stack, which ends the process. Types with interfaces in them, which only
// servers send, are left to gob. The zero value is a stream that begins.
type Guard struct{ types types }

// Check checks the next message, whole in raw, which is to be decoded into a pointer to a struct.
func (g *Guard) Check(raw []byte, into any) error {
	target := reflect.TypeOf(into).Elem()
	if open(target, make(map[reflect.Type]bool)) {
		return nil
	}
	defined, err := definitions(raw)
	if err != nil {
		return err
	}
	if err := g.types.define(raw[:defined]); err != nil {
		return err
	}
	_, _, err = g.types.check(raw[defined:], target)
	return err
}

// check checks a value and returns its type and how it was counted.
func (t *types) check(raw []byte, into reflect.Type) (int64, *plan, error) {
	id, _, err := part(raw)
	if err != nil {
		return 0, nil, err
	}
	p, err := t.plan(id, into)
	if err != nil {
		return 0, nil, err
	}
	return id, p, count(raw, p)
}

// count checks a value of a known type.
func count(raw []byte, p *plan) error {
	_, size, err := part(raw)
	if err != nil {
		return err
	}
	length, n, err := number64(raw)
	if err != nil {
		return err
	}
	c := &counter{cursor: cursor{rest: raw[n:size]}, left: spare + length + min(perByte*length, most)}
	c.uint() // the type number
	if p.kind != record {
		c.end() // a value that is not in a struct has a 0 before it
	}
	c.value(p, maxDepth)
	if c.err == nil && c.bad {
		return errMalformed
	}
	return c.err
}

// counter walks through a value.
type counter struct {
	cursor
	left uint64 // of the memory
	err  error
}

func (c *counter) refuse(err error) {
	if c.err == nil {
		c.err = err
	}
	c.fail()
}

// take notes that memory is needed.
func (c *counter) take(n, size uint64) {
	if size > 0 && n > c.left/size {
		c.refuse(fault.New(fault.ResourceExhausted, "gob: the message would take too much memory for its length; make several calls"))
		return
	}
	c.left -= n * size
}

func (c *counter) value(p *plan, depth int) {
	if depth == 0 {
		c.refuse(fault.New(fault.InvalidArgument, "gob: values are nested more than %d deep", maxDepth))
	}
	if c.bad {
		return
	}
	switch p.kind {
	case number:
		c.uint()
	case pair:
		c.uint()
		c.uint()
	case text:
		c.skip() // as long in memory as here
	case dynamic:
		if c.skip() > 0 { // its name; none = nil
			c.refuse(fault.New(fault.InvalidArgument, "gob: values of types that are named with them are not taken"))
		}
	case list:
		n := c.count(1)
		c.take(n, p.elem.size)
		for range n {
			c.value(p.elem, depth-1)
		}
	case table:
		n := c.count(2)
		c.take(n, 2*(p.key.size+p.elem.size)) // maps have room left
		for range n {
			c.value(p.key, depth-1)
			c.value(p.elem, depth-1)
		}
	case record:
		c.steps(len(p.fields), func(i int) { c.value(p.fields[i], depth-1) })
	}
}

// count takes how many values follow, each of which has so many bytes at least.
func (c *counter) count(least uint64) uint64 {
	n := c.uint()
	if n > uint64(len(c.rest))/least {
		c.refuse(fault.New(fault.InvalidArgument, "gob: %d elements are announced, of which %d bytes follow", n, len(c.rest)))
		return 0
	}
	return n
}
