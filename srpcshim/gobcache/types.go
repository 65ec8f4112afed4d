package gobcache

import "github.com/hyperplane-project/hyperplane/internal/fault"

// kind is how values of a type look in a stream. The source of all that is known here is the documentation of encoding/gob.
type kind uint8

const (
	number  kind = iota + 1 // one number: booleans, integers, floats
	pair                    // two of them: complex numbers
	text                    // a length and that many bytes: strings, byte slices, what types encode themselves
	dynamic                 // a value with the name of its type
	list                    // a count and that many values: slices and arrays
	table                   // a count and that many keys and values
	record                  // steps to the next field that is there, each before its value, and 0
)

// wireType is a type of the stream.
type wireType struct {
	kind      kind
	key, elem int64
	fields    []wireField
}

type wireField struct {
	name string
	id   int64
}

const (
	// maxTypes and maxTypeBytes bound the definitions of one stream. Stock clients send 20 types in 1720 bytes at most.
	maxTypes     = 256
	maxTypeBytes = 32 << 10
	// firstID is the first number of a defined type.
	firstID = 64
)

// types are the types of one stream.
type types struct {
	defined map[int64]*wireType
	bytes   int
	plans   map[planKey]*plan
}

func builtin(id int64) *wireType {
	switch id {
	case 1, 2, 3, 4: // bool, int, uint, float
		return &wireType{kind: number}
	case 5, 6: // []byte, string
		return &wireType{kind: text}
	case 7:
		return &wireType{kind: pair}
	case 8:
		return &wireType{kind: dynamic}
	default:
		return nil
	}
}

func (t *types) find(id int64) *wireType {
	if b := builtin(id); b != nil {
		return b
	}
	return t.defined[id]
}

// define takes the definitions that a message begins with.
func (t *types) define(defined []byte) error {
	if t.bytes += len(defined); t.bytes > maxTypeBytes {
		return fault.New(fault.ResourceExhausted, "gob: more than %d bytes of type definitions", maxTypeBytes)
	}
	for len(defined) > 0 {
		id, size, err := part(defined)
		if err != nil {
			return err
		}
		length, n, err := number64(defined)
		if err != nil {
			return err
		}
		c := cursor{rest: defined[n : n+int(length)]}
		c.uint() // the type number
		made := c.definition()
		if c.bad || len(c.rest) > 0 || -id < firstID || t.defined[-id] != nil {
			return errMalformed
		}
		if len(t.defined) == maxTypes {
			return fault.New(fault.ResourceExhausted, "gob: more than %d type definitions", maxTypes)
		}
		if t.defined == nil {
			t.defined = make(map[int64]*wireType)
		}
		t.defined[-id] = made
		defined = defined[size:]
	}
	return nil
}

// definition takes a definition: a struct of which one field is there.
func (c *cursor) definition() *wireType {
	w := new(wireType)
	switch c.uint() {
	case 1:
		w.kind = list
		c.numbers(&w.elem, new(int64)) // the length of an array comes with the value too
	case 2:
		w.kind = list
		c.numbers(&w.elem)
	case 3:
		w.kind = record
		c.structure(w)
	case 4:
		w.kind = table
		c.numbers(&w.key, &w.elem)
	case 5, 6, 7:
		w.kind = text
		c.numbers()
	default:
		c.bad = true
	}
	c.end()
	return w
}

// numbers takes a struct whose first field is the part that all definitions have, and the others are numbers.
func (c *cursor) numbers(to ...*int64) {
	c.steps(1+len(to), func(field int) {
		if field == 0 {
			c.common()
			return
		}
		*to[field-1] = c.int()
	})
}

// common takes the name and the number of a type.
func (c *cursor) common() (w wireField) {
	c.steps(2, func(field int) {
		if field == 0 {
			w.name = c.text()
			return
		}
		w.id = c.int()
	})
	return w
}

func (c *cursor) structure(w *wireType) {
	c.steps(2, func(field int) {
		if field == 0 {
			c.common()
			return
		}
		n := c.uint()
		if n > uint64(len(c.rest)) {
			c.bad = true
			return
		}
		for range n {
			w.fields = append(w.fields, c.common())
		}
	})
}
