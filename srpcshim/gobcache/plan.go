package gobcache

import (
	"encoding"
	"encoding/gob"
	"reflect"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// plan is how values of a type of the stream are counted: as what they look like there, and how much memory they take as what they are decoded into.
type plan struct {
	kind kind
	// size is the memory of a value, without what it refers to but with what its pointers point to. 0 = it is not decoded.
	size      uint64
	key, elem *plan
	fields    []*plan
}

type planKey struct {
	id   int64
	into reflect.Type // nil = it is not decoded
}

// plan returns the plan of a type.
func (t *types) plan(id int64, into reflect.Type) (*plan, error) {
	made, err := t.make(id, into)
	if err != nil {
		t.plans = nil // some are not complete
	}
	return made, err
}

func (t *types) make(id int64, into reflect.Type) (*plan, error) {
	key := planKey{id, into}
	if known := t.plans[key]; known != nil {
		return known, nil
	}
	w := t.find(id)
	if w == nil {
		return nil, fault.New(fault.InvalidArgument, "gob: type %d is not defined", id)
	}
	p := &plan{kind: w.kind}
	if t.plans == nil {
		t.plans = make(map[planKey]*plan)
	}
	t.plans[key] = p
	if into != nil {
		p.size = uint64(into.Size())
		for ; into.Kind() == reflect.Pointer; into = into.Elem() {
			p.size += uint64(into.Elem().Size())
		}
	}
	return p, t.complete(p, w, into)
}

// complete plans what a type consists of.
func (t *types) complete(p *plan, w *wireType, into reflect.Type) (err error) {
	switch w.kind {
	case list:
		p.elem, err = t.make(w.elem, elemOf(into, reflect.Slice, reflect.Array))
	case table:
		var key reflect.Type
		if into != nil && into.Kind() == reflect.Map {
			key = into.Key()
		}
		if p.key, err = t.make(w.key, key); err == nil {
			p.elem, err = t.make(w.elem, elemOf(into, reflect.Map))
		}
	case record:
		p.fields = make([]*plan, len(w.fields))
		for i := 0; i < len(w.fields) && err == nil; i++ {
			p.fields[i], err = t.make(w.fields[i].id, fieldOf(into, w.fields[i].name))
		}
	default:
	}
	return err
}

func elemOf(into reflect.Type, kinds ...reflect.Kind) reflect.Type {
	for _, k := range kinds {
		if into != nil && into.Kind() == k {
			return into.Elem()
		}
	}
	return nil
}

// fieldOf returns what gob decodes a field into.
func fieldOf(into reflect.Type, name string) reflect.Type {
	if into == nil || into.Kind() != reflect.Struct || decodesItself(into) {
		return nil
	}
	f, ok := into.FieldByName(name)
	if !ok || !f.IsExported() {
		return nil
	}
	return f.Type
}

func decodesItself(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return p.Implements(reflect.TypeFor[gob.GobDecoder]()) || p.Implements(reflect.TypeFor[encoding.BinaryUnmarshaler]())
}
