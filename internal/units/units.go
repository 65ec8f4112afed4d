// Package units writes and reads sizes as people do.
package units

import (
	"strconv"
	"strings"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// binary are the units that are powers of 1024.
func binary() []string { return []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"} }

// Bytes writes a size with at most one decimal: 1.5 GiB.
func Bytes(n uint64) string {
	names := binary()
	if n < 1024 {
		return strconv.FormatUint(n, 10) + " B"
	}
	value, i := float64(n), 0
	for value >= 1024 && i < len(names)-1 {
		value /= 1024
		i++
	}
	text := strconv.FormatFloat(value, 'f', 1, 64)
	return strings.TrimSuffix(text, ".0") + " " + names[i]
}

// ParseBytes reads a size: digits, and then nothing (bytes) or a unit of 1024, as 512M, 512MiB or 512 MB.
func ParseBytes(text string) (uint64, error) {
	bad := func() (uint64, error) {
		return 0, fault.New(fault.InvalidArgument, "size %q: write digits and a unit, as 512MiB or 20G", text)
	}
	end := strings.IndexFunc(text, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		end = len(text)
	}
	n, err := strconv.ParseUint(text[:end], 10, 64)
	if err != nil {
		return bad()
	}
	unit := strings.ToUpper(strings.TrimSpace(text[end:]))
	unit = strings.TrimSuffix(unit, "B")
	if len(unit) == 2 {
		unit = strings.TrimSuffix(unit, "I")
	}
	power := strings.Index("KMGTPE", unit) + 1
	if unit == "" {
		power = 0
	} else if len(unit) != 1 || power == 0 {
		return bad()
	}
	for range power {
		if n > (1<<64-1)/1024 {
			return bad()
		}
		n *= 1024
	}
	return n, nil
}
