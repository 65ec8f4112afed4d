// Package gobcache encodes and decodes gob messages of which each begins a stream of its own, as the calls of SRPC do. Such a message is mostly type
// definitions (nine tenths of a small one), and most of the time goes into making them and into compiling what they mean. Both are the same each time: a
// process gives a type the same numbers for ever, so that its definitions are constant bytes, and peers made from the same program send the same ones.
package gobcache

import (
	"bytes"
	"encoding/gob"
	"reflect"
	"sync"
)

// Cache keeps encoders and decoders that have their definitions behind them. The zero value is ready; it may be used by many goroutines.
type Cache struct {
	outgoing sync.Map // reflect.Type: *outgoing
	incoming sync.Map // reflect.Type: *incoming
}

// Sent is what has been defined in a stream so far. The zero value is a stream that begins.
type Sent map[int64]bool

// Encode appends message, a struct or a pointer to one, to out as the next message of a stream. sent takes note of what it defines; with a nil one the message is
// a stream's only one. out is unchanged if that fails.
func (c *Cache) Encode(out *bytes.Buffer, message any, sent Sent) error {
	o, err := c.outgoingOf(message)
	if err != nil {
		return err
	}
	if o == nil {
		return gob.NewEncoder(out).Encode(message)
	}
	before := out.Len()
	o.define(out, sent)
	if err := o.value(out, message); err != nil {
		out.Truncate(before)
		return err
	}
	return nil
}

// Splits says whether messages of this type can be encoded in two parts, definitions and value. A message with interfaces in it can not: what it defines
// depends on what they hold. It must be the only one of its stream, or have an encoder of its own.
func (c *Cache) Splits(message any) bool {
	o, err := c.outgoingOf(message)
	return err == nil && o != nil
}

// Define appends the definitions for messages of this type that the stream does not have yet.
func (c *Cache) Define(out *bytes.Buffer, message any, sent Sent) error {
	o, err := c.outgoingOf(message)
	if err != nil || o == nil {
		return err
	}
	o.define(out, sent)
	return nil
}

// Value appends a message without definitions. The same bytes may go into any stream of this process that has them. out is unchanged if that fails.
func (c *Cache) Value(out *bytes.Buffer, message any) error {
	o, err := c.outgoingOf(message)
	if err != nil {
		return err
	}
	before := out.Len()
	if err = o.value(out, message); err != nil {
		out.Truncate(before)
	}
	return err
}

// outgoingOf returns nil for types whose definitions are not constant.
func (c *Cache) outgoingOf(message any) (*outgoing, error) {
	t := reflect.TypeOf(message)
	if known, ok := c.outgoing.Load(t); ok {
		return known.(*outgoing), nil //nolint:forcetypeassert // nothing else is stored
	}
	made, err := newOutgoing(t)
	if err != nil {
		return nil, err
	}
	known, _ := c.outgoing.LoadOrStore(t, made)
	return known.(*outgoing), nil //nolint:forcetypeassert // nothing else is stored
}

// Decode decodes a stream of one message, whole in raw, into a pointer to a struct, which must be empty. Messages that do not look like what they would be
// decoded into, or would take much more memory than they have bytes, are refused (see Guard).
func (c *Cache) Decode(raw []byte, into any) error {
	t := reflect.TypeOf(into)
	known, ok := c.incoming.Load(t)
	if !ok {
		known, _ = c.incoming.LoadOrStore(t, &incoming{open: open(t, make(map[reflect.Type]bool))})
	}
	return known.(*incoming).decode(raw, into) //nolint:forcetypeassert // nothing else is stored
}
