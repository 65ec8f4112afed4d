package daemon

import (
	"iter"
	"strings"
)

// Values yields the texts that follow a key in an encoded message, each with its length before it in one byte.
func Values(raw []byte, key string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for rest := string(raw); ; {
			_, after, found := strings.Cut(rest, key)
			if !found || after == "" || int(after[0]) >= len(after) || !yield(after[1:1+int(after[0])]) {
				return
			}
			rest = after[1+int(after[0]):]
		}
	}
}
