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

// incoming is a type of message that is decoded: what definitions mean for it, by the bytes of these.
type incoming struct {
	open  bool // it can not be counted
	mu    sync.RWMutex
	peers map[string]*peer
}

// peer is what a peer's definitions mean: the type of its messages, and decoders that have read them.
type peer struct {
	id       int64
	plan     *plan
	decoders sync.Pool
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
	if c.open {
		return newDecoder().decode(raw, into)
	}
	defined, err := definitions(raw)
	if err != nil {
		return err
	}
	id, _, err := part(raw[defined:])
	if err != nil {
		return err
	}
	known := c.find(raw[:defined])
	if known == nil || known.id != id {
		return c.first(raw, defined, into)
	}
	if err := count(raw[defined:], known.plan); err != nil {
		return err
	}
	if d, ok := known.decoders.Get().(*decoder); ok {
		if d.decode(raw[defined:], into) == nil {
			known.decoders.Put(d)
			return nil
		}
		reflect.ValueOf(into).Elem().SetZero()
	}
	return known.keep(raw, into)
}

// first decodes the first message with these definitions.
func (c *incoming) first(raw []byte, defined int, into any) error {
	var t types
	if err := t.define(raw[:defined]); err != nil {
		return err
	}
	id, p, err := t.check(raw[defined:], reflect.TypeOf(into).Elem())
	if err != nil {
		return err
	}
	fresh := &peer{id: id, plan: p}
	if err := fresh.keep(raw, into); err != nil {
		return err
	}
	if 0 < defined && defined <= maxDefinitions {
		c.add(raw[:defined], fresh)
	}
	return nil
}

// keep decodes with a fresh decoder, and keeps that if it could.
func (p *peer) keep(raw []byte, into any) error {
	d := newDecoder()
	if err := d.decode(raw, into); err != nil {
		return err
	}
	p.decoders.Put(d)
	return nil
}

func (c *incoming) find(defined []byte) *peer {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.peers[string(defined)]
}

func (c *incoming) add(defined []byte, fresh *peer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.peers == nil || len(c.peers) == maxPeers {
		c.peers = make(map[string]*peer)
	}
	c.peers[string(defined)] = fresh
}
