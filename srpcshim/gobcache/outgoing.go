package gobcache

import (
	"bytes"
	"encoding/gob"
	"reflect"
	"sync"
)

// outgoing is a type of message that is encoded.
type outgoing struct {
	empty       reflect.Value // of the type
	definitions []definition
	all         []byte // all of them
	encoders    sync.Pool
}

// definition is a part of a stream that says what a type number means.
type definition struct {
	id    int64
	bytes []byte
}

// encoder is a gob encoder that has defined its type and appends to whatever buffer is set.
type encoder struct {
	out     *bytes.Buffer
	encoder *gob.Encoder
}

// Write implements io.Writer for the gob encoder.
func (e *encoder) Write(p []byte) (int, error) { return e.out.Write(p) }

// newOutgoing returns nil for types with interfaces in them.
func newOutgoing(t reflect.Type) (*outgoing, error) {
	if open(t, make(map[reflect.Type]bool)) {
		return nil, nil //nolint:nilnil // it is one of two good answers
	}
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	o := &outgoing{empty: reflect.New(t)}
	o.encoders.New = func() any {
		e := new(encoder)
		e.encoder = gob.NewEncoder(e)
		return e
	}
	first, err := o.first()
	if err != nil {
		return nil, err
	}
	o.definitions, _, err = split(first)
	for _, d := range o.definitions {
		o.all = append(o.all, d.bytes...)
	}
	return o, err
}

// first returns what an encoder says of the first message.
func (o *outgoing) first() ([]byte, error) {
	var out bytes.Buffer
	e := &encoder{out: &out}
	err := gob.NewEncoder(e).EncodeValue(o.empty)
	return out.Bytes(), err
}

// open says whether values of a type can be of types that the type does not tell.
func open(t reflect.Type, seen map[reflect.Type]bool) bool {
	if seen[t] {
		return false
	}
	seen[t] = true
	switch t.Kind() {
	case reflect.Interface:
		return true
	case reflect.Map:
		return open(t.Key(), seen) || open(t.Elem(), seen)
	case reflect.Pointer, reflect.Slice, reflect.Array:
		return open(t.Elem(), seen)
	case reflect.Struct:
		for f := range t.Fields() {
			if f.IsExported() && open(f.Type, seen) {
				return true
			}
		}
	default:
	}
	return false
}

func (o *outgoing) define(out *bytes.Buffer, sent Sent) {
	if sent == nil {
		out.Write(o.all)
		return
	}
	for _, d := range o.definitions {
		if !sent[d.id] {
			sent[d.id] = true
			out.Write(d.bytes)
		}
	}
}

// value encodes a message with an encoder that has sent its definitions somewhere else.
func (o *outgoing) value(out *bytes.Buffer, message any) error {
	e, ok := o.encoders.Get().(*encoder)
	if !ok {
		return errNoEncoder
	}
	if e.out == nil {
		e.out = new(bytes.Buffer)
		if err := e.encoder.EncodeValue(o.empty); err != nil {
			return err
		}
	}
	e.out = out
	if err := e.encoder.Encode(message); err != nil {
		return err // an encoder that failed is not used again
	}
	o.encoders.Put(e)
	return nil
}
