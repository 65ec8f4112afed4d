package srpcshim

import (
	"reflect"
	"unicode/utf8"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

const (
	// maxDepth bounds how deep the brackets of a request are nested. Those of the protocol have 6 levels.
	maxDepth = 64
	// spare, perByte and most bound the memory that the lists of a request become: "{}," may be hundreds of bytes there. Those of the protocol's
	// clients need four bytes for one of JSON at most.
	spare   = 256 << 10
	perByte = 5
	most    = 4 << 20
)

// checkJSON checks what encoding/json would do whatever it costs, or leave out. element is how many bytes an element of a list may become.
func checkJSON(message []byte, element uint64) error {
	if !utf8.Valid(message) {
		return malformed("it is not UTF-8")
	}
	elements, depth := jsonElements(message)
	if depth > maxDepth {
		return malformed("brackets are nested more than %d deep", maxDepth)
	}
	length := uint64(len(message))
	if elements*element > spare+length+min(perByte*length, most) {
		return fault.New(fault.ResourceExhausted, "the request has %d elements of lists, which would take too much memory for its length; make several calls", elements)
	}
	return nil
}

// jsonElements returns how many elements the lists of a request have at most, and how deep its brackets are nested.
func jsonElements(message []byte) (elements uint64, deepest int) {
	var lists [maxDepth + 1]bool
	depth, quoted := 0, false
	for i := 0; i < len(message); i++ {
		switch b := message[i]; {
		case quoted && b == '\\':
			i++
		case b == '"':
			quoted = !quoted
		case quoted:
		case b == '{', b == '[':
			deepest = max(deepest, depth+1)
			if depth++; depth > maxDepth {
				return elements, deepest
			}
			lists[depth] = b == '['
			if b == '[' {
				elements++
			}
		case (b == '}' || b == ']') && depth > 0:
			depth--
		case b == ',' && lists[depth]:
			elements++
		}
	}
	return elements, deepest
}

// element returns the size of the largest element that a list in a message can have.
func (c jsonCodec) element(message any) uint64 {
	t := reflect.TypeOf(message)
	if known, ok := c.elements.Load(t); ok {
		return known.(uint64) //nolint:forcetypeassert // nothing else is stored
	}
	size := largest(t, make(map[reflect.Type]bool))
	c.elements.Store(t, size)
	return size
}

func largest(t reflect.Type, seen map[reflect.Type]bool) uint64 {
	if seen[t] {
		return 0
	}
	seen[t] = true
	switch t.Kind() {
	case reflect.Pointer, reflect.Array, reflect.Map:
		return largest(t.Elem(), seen)
	case reflect.Slice:
		size := uint64(t.Elem().Size())
		for e := t.Elem(); e.Kind() == reflect.Pointer; e = e.Elem() {
			size += uint64(e.Elem().Size())
		}
		return max(size, largest(t.Elem(), seen))
	case reflect.Struct:
		var size uint64
		for f := range t.Fields() {
			if f.IsExported() || f.Anonymous {
				size = max(size, largest(f.Type, seen))
			}
		}
		return size
	default:
		return 0
	}
}
