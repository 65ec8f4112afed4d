package ovf

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxName is the longest name in bytes that SafeName gives. File systems take 255; the rest is for what callers append (.part, .mf).
const maxName = 200

// SafeName turns a name from a source into a file name that stays in the folder it is put in and that every file system takes.
// Separators, control characters and the characters that Windows or a manifest line cannot hold become "_"; dots, spaces and dashes in front and
// dots and spaces at the end go; device names of Windows get a "_" in front; long names are cut before their extension. The result is
// valid UTF-8, not empty, at most 200 bytes long, and a fixed point: SafeName(SafeName(x)) == SafeName(x). Different names can
// become one; Names keeps them apart.
func SafeName(name string) string {
	clean := strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) || strings.ContainsRune(`/\<>:"|?*()`, r) {
			return '_'
		}
		return r
	}, name)
	clean = trim(clean)
	if clean == "" {
		return "unnamed"
	}
	stem, _, _ := strings.Cut(clean, ".")
	if isDevice(strings.TrimRight(stem, " ")) {
		clean = "_" + clean
	}
	return shorten(clean)
}

func trim(name string) string {
	return strings.TrimRight(strings.TrimLeft(name, ".- "), ". ")
}

// isDevice reports whether Windows takes the name for a device, whatever its extension.
func isDevice(stem string) bool {
	switch upper := strings.ToUpper(stem); upper {
	case "CON", "PRN", "AUX", "NUL":
		return true
	default:
		return len(upper) == 4 && (strings.HasPrefix(upper, "COM") || strings.HasPrefix(upper, "LPT")) && upper[3] >= '0' && upper[3] <= '9'
	}
}

func shorten(name string) string {
	if len(name) <= maxName {
		return name
	}
	ext := ""
	if i := strings.LastIndexByte(name, '.'); i > 0 && len(name)-i <= 16 {
		name, ext = name[:i], name[i:]
	}
	name = name[:min(len(name), maxName-len(ext))]
	for !utf8.ValidString(name) {
		name = name[:len(name)-1]
	}
	return trim(name) + ext
}

// Names hands out safe names of which no two are equal, upper and lower case taken as one. The zero value is ready to use.
type Names struct{ taken map[string]bool }

// Take returns a safe form of name that was not taken before: SafeName's, or that with a number before the extension.
func (n *Names) Take(name string) string {
	if n.taken == nil {
		n.taken = make(map[string]bool)
	}
	base := SafeName(name)
	stem, ext := base, ""
	if i := strings.LastIndexByte(base, '.'); i > 0 {
		stem, ext = base[:i], base[i:]
	}
	one := base
	for i := 2; n.taken[strings.ToLower(one)]; i++ {
		one = SafeName(stem + "-" + strconv.Itoa(i) + ext)
		if len(one) >= maxName { // the number was cut away: make room for it
			one = SafeName(stem[:len(stem)/2] + "-" + strconv.Itoa(i) + ext)
		}
	}
	n.taken[strings.ToLower(one)] = true
	return one
}
