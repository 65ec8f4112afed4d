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
