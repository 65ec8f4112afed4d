package srpcshim

import (
	"bufio"
	"bytes"
	"encoding/gob"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/srpcshim/gobcache"
)

// gobCodec is Go's own encoding. Names of structs and packages mean nothing in it, names of fields do.
type gobCodec struct{ cache *gobcache.Cache }

// read takes the type definitions and the value of one message. The stream format is that of encoding/gob's documentation: parts, each a
// length and that many bytes; a part begins with a type number, negative for a definition.
func (gobCodec) read(in *bufio.Reader, limit int64) ([]byte, error) {
	c := &collector{in: in, limit: limit}
	for {
		length, err := gobUint(c.byte)
		if err != nil {
			return nil, err
		}
		before := c.bytes.Len()
		if err := c.take(length); err != nil {
			return nil, err
		}
		part := c.bytes.Bytes()[before:]
		id, err := gobUint(bytes.NewReader(part).ReadByte)
		if err != nil {
			return nil, malformed("a part of %d bytes has no type number", length)
		}
		if id&1 == 0 { // the lowest bit is the sign
			return c.bytes.Bytes(), nil
		}
	}
}

// gobUint reads an unsigned number: one byte if it is below 128, otherwise the negated count of bytes, and the bytes, highest first.
func gobUint(next func() (byte, error)) (uint64, error) {
	first, err := next()
	if err != nil || first < 0x80 {
		return uint64(first), err
	}
	n := -int(int8(first))
	if n > 8 {
		return 0, malformed("a number of %d bytes", n)
	}
	var v uint64
	for range n {
		b, err := next()
		if err != nil {
			return 0, err
		}
		v = v<<8 | uint64(b)
	}
	return v, nil
}

func (gobCodec) skipEnd(*bufio.Reader) bool { return false }

func (g gobCodec) decode(message []byte, into any) error { return g.cache.Decode(message, into) }

func (g gobCodec) encode(out *bytes.Buffer, message any) error {
	return g.cache.Encode(out, message, nil)
}

// decoder keeps the type definitions, which are sent once. The buffer has the whole message, and the decoder takes no more than that.
func (gobCodec) decoder(from *bytes.Buffer) func(any) error {
	d, guard := gob.NewDecoder(from), new(gobcache.Guard)
	return func(into any) error {
		if err := guard.Check(from.Bytes(), into); err != nil {
			return err
		}
		return d.Decode(into)
	}
}

func (g gobCodec) encoder() encoder { return &gobEncoder{cache: g.cache, sent: make(gobcache.Sent)} }

func (g gobCodec) value(message any) ([]byte, error) {
	if !g.cache.Splits(message) {
		return nil, fault.New(fault.Internal, "SRPC message %T can not be shared", message)
	}
	var out bytes.Buffer
	err := g.cache.Value(&out, message)
	return out.Bytes(), err
}

// gobEncoder knows what has been defined in its call.
type gobEncoder struct {
	cache *gobcache.Cache
	sent  gobcache.Sent
	// own is for a call whose messages have no constant definitions.
	own    *gob.Encoder
	target bytes.Buffer
}

func (e *gobEncoder) encode(out *bytes.Buffer, message any) error {
	if e.own == nil && e.cache.Splits(message) {
		return e.cache.Encode(out, message, e.sent)
	}
	if len(e.sent) > 0 {
		return fault.New(fault.Internal, "SRPC message %T in a call with others", message)
	}
	if e.own == nil {
		e.own = gob.NewEncoder(&e.target)
	}
	e.target.Reset()
	err := e.own.Encode(message)
	out.Write(e.target.Bytes())
	return err
}

func (e *gobEncoder) share(out *bytes.Buffer, like any, value []byte) error {
	err := e.cache.Define(out, like, e.sent)
	out.Write(value)
	return err
}
