// Package enumtext turns enum values into the words that people read: STATE_FAILED_TO_START is "failed to start".
package enumtext

import (
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// Of returns an enum value's name in lower case without the enum's own name in front, with blanks for underscores. A number without a
// name is returned in digits by protobuf's own rule.
func Of(e interface {
	protoreflect.Enum
	String() string
},
) string {
	prefix := snake(string(e.Descriptor().Name())) + "_"
	return strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(e.String(), prefix)), "_", " ")
}

// Parse returns the value that Of calls text, and whether there is one. The unspecified value has no word.
func Parse[E interface {
	~int32
	protoreflect.Enum
	String() string
}](text string) (E, bool) {
	var zero E
	values := zero.Descriptor().Values()
	for i := range values.Len() {
		e := E(values.Get(i).Number())
		if e != zero && Of(e) == text {
			return e, true
		}
	}
	return zero, false
}

// Words returns what Of says for all values but the unspecified one, in their order.
func Words(d protoreflect.EnumDescriptor) []string {
	prefix := snake(string(d.Name())) + "_"
	var words []string
	for i := range d.Values().Len() {
		if v := d.Values().Get(i); v.Number() != 0 {
			words = append(words, strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(string(v.Name()), prefix)), "_", " "))
		}
	}
	return words
}

// snake turns CamelCase into SNAKE_CASE.
func snake(camel string) string {
	var b strings.Builder
	for i, r := range camel {
		if i > 0 && r >= 'A' && r <= 'Z' {
			b.WriteByte('_')
		}
		b.WriteRune(r)
	}
	return strings.ToUpper(b.String())
}
