package gobcache

import (
	"bytes"
	"encoding/gob"
	"reflect"
	"sync"
)

const (
	// maxPeers bounds the sets of definitions that are remembered for a type of message. There are as many as peers made from different programs.
	maxPeers = 8
	// maxDefinitions bounds the bytes of such a set. The largest of stock clients has 1720.
	maxDefinitions = 4 << 10
)

// incoming is a type of message that is decoded: decoders that have read definitions, by the bytes of these.
type incoming struct {
	mu       sync.RWMutex
	decoders map[string]*sync.Pool
}

// decoder is a gob decoder that reads what is set.
type decoder struct {
	from    bytes.Reader
	decoder *gob.Decoder
}

func newDecoder() *decoder {
	d := new(decoder)
	d.decoder = gob.NewDecoder(&d.from)
	return d
}

func (d *decoder) decode(raw []byte, into any) error {
	d.from.Reset(raw)
	defer d.from.Reset(nil)
	return d.decoder.Decode(into)
}

// decode uses a decoder that knows the message's definitions. If that fails, a fresh one has the last word: what other messages made of the first one does
// not matter then.
func (c *incoming) decode(raw []byte, into any) error {
	defined, err := definitions(raw)
	if err != nil || defined == 0 || defined > maxDefinitions {
		return newDecoder().decode(raw, into)
	}
	decoders := c.find(raw[:defined])
	if decoders != nil {
		if d, ok := decoders.Get().(*decoder); ok {
			if d.decode(raw[defined:], into) == nil {
				decoders.Put(d)
				return nil
			}
			reflect.ValueOf(into).Elem().SetZero()
		}
	}
	d := newDecoder()
	if err := d.decode(raw, into); err != nil {
		return err
	}
	if decoders == nil {
		decoders = c.add(raw[:defined])
	}
	decoders.Put(d)
	return nil
}

func (c *incoming) find(defined []byte) *sync.Pool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.decoders[string(defined)]
}

func (c *incoming) add(defined []byte) *sync.Pool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if known := c.decoders[string(defined)]; known != nil {
		return known
	}
	if c.decoders == nil || len(c.decoders) == maxPeers {
		c.decoders = make(map[string]*sync.Pool)
	}
	fresh := new(sync.Pool)
	c.decoders[string(defined)] = fresh
	return fresh
}
