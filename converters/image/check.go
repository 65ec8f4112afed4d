package image

import "context"

// Severity is how bad a Finding is.
type Severity uint8

// The severities, from harmless to bad.
const (
	// Leak is room in the file that nothing uses. Reading is not affected.
	Leak Severity = iota
	// Corruption is metadata that contradicts itself or the file: reading some part gives wrong content or fails.
	Corruption
)

// String returns the word for people and programs.
func (s Severity) String() string {
	if s == Leak {
		return "leak"
	}
	return "corruption"
}

// Finding is something wrong with an image's structure.
type Finding struct {
	Severity Severity
	// Offset is the place in the image's file, in bytes, or -1.
	Offset int64
	// Text says what is wrong there, with the format's own words.
	Text string
}

// Checker is a Reader that can examine the structure of its own file: checksums, tables, overlaps, room that nothing uses. It does not look at
// other files, nor at the disk's content.
type Checker interface {
	Reader
	// Check calls report for each finding, at most a few thousand times, in no particular order. Its memory is bounded by the file's size over
	// the cluster size: a bit or two for each cluster. An error means that the examination could not be finished.
	Check(ctx context.Context, report func(Finding)) error
}
