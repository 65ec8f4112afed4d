package converters

import "slices"

// Readable returns the names of the formats that can be read, Writable of those that can be written, each ordered.
func (f Formats) Readable() []string {
	var names []string
	for _, g := range f {
		if g.Create != nil || g.OpenStream != nil { // formats that are only recognised have neither
			names = append(names, g.Name)
		}
	}
	return sorted(names)
}

// Writable returns the names of the formats that can be written, ordered.
func (f Formats) Writable() []string {
	var names []string
	for _, g := range f {
		if g.Create != nil {
			names = append(names, g.Name)
		}
	}
	return sorted(names)
}

func sorted(names []string) []string {
	slices.Sort(names)
	return slices.Compact(names)
}
