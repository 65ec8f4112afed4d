package srpcshim

import (
	"bufio"
	"bytes"
	"encoding/json"
	"sync"
)

// jsonCodec is one JSON object a message, with a newline after it.
type jsonCodec struct {
	elements *sync.Map // reflect.Type: uint64, of messages: see element
}

// read takes one object: up to the bracket that closes the first one. Whether it is JSON is for decode to say. json.Decoder would read ahead.
func (jsonCodec) read(in *bufio.Reader, limit int64) ([]byte, error) {
	c := &collector{in: in, limit: limit}
	first, err := firstByte(c)
	if err != nil {
		return nil, err
	}
	if first != '{' {
		return nil, malformed("a JSON request is an object, this begins with %q", first)
	}
	for depth, quoted := 1, false; depth > 0; {
		b, err := c.byte()
		if err != nil {
			return nil, err
		}
		switch {
		case quoted && b == '\\':
			_, err = c.byte()
		case b == '"':
			quoted = !quoted
		case quoted:
		case b == '{' || b == '[':
			depth++
		case b == '}' || b == ']':
			depth--
		}
		if err != nil {
			return nil, err
		}
	}
	return c.bytes.Bytes(), nil
}

func firstByte(c *collector) (byte, error) {
	for {
		b, err := c.byte()
		if err != nil || !blank(b) {
			return b, err
		}
	}
}

func blank(b byte) bool { return b == ' ' || b == '\t' || b == '\r' || b == '\n' }

// skipEnd takes the newline after a request, which would otherwise be taken for a ping.
func (jsonCodec) skipEnd(in *bufio.Reader) bool {
	for in.Buffered() > 0 {
		b, err := in.ReadByte()
		switch {
		case err != nil:
			return true
		case b == '\n':
			return false
		case !blank(b):
			return in.UnreadByte() != nil
		}
	}
	return true
}

func (c jsonCodec) decode(message []byte, into any) error {
	if err := checkJSON(message, c.element(into)); err != nil {
		return err
	}
	return json.Unmarshal(message, into)
}

func (jsonCodec) encode(out *bytes.Buffer, message any) error {
	e := json.NewEncoder(out)
	e.SetEscapeHTML(false)
	return e.Encode(message)
}

func (c jsonCodec) decoder(from *bytes.Buffer) func(any) error {
	return func(into any) error { return c.decode(from.Bytes(), into) }
}

func (c jsonCodec) encoder() encoder { return c }

func (c jsonCodec) value(message any) ([]byte, error) {
	var out bytes.Buffer
	err := c.encode(&out, message)
	return out.Bytes(), err
}

func (jsonCodec) share(out *bytes.Buffer, _ any, value []byte) error {
	_, err := out.Write(value)
	return err
}
