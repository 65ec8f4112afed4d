package image

// OpenOptions says how an image is opened. The zero value opens one file and nothing else.
type OpenOptions struct {
	// InfoOnly says that only Info, Check and Close of the Reader will be called. No other file is opened, and needing one is no error; neither is
	// a snapshot or member that was not chosen.
	InfoOnly bool
	// Refs opens the other files an image names. With nil an image that needs one is refused.
	Refs References
	// Snapshot chooses an internal snapshot by its id or name; empty is the current state.
	Snapshot string
	// Member chooses a file of an archive; empty is its only disk.
	Member string
	// SizeRule says which of the two sizes a VHD states is believed; empty is the rule by the program that made it.
	SizeRule SizeRule
	// Force reads what is refused by default although it may be read: a VHD none of whose checksums is right. What was overlooked is a warning.
	Force bool
}

// SizeRule is a way to find the size of a VHD, whose footer states it twice.
type SizeRule string

// The rules.
const (
	SizeByCreator  SizeRule = ""
	SizeByCurrent  SizeRule = "current"
	SizeByGeometry SizeRule = "geometry"
)

// References opens files that an image names. An implementation decides what may be opened at all; it never looks at content to find a format.
type References interface {
	// File opens a file that holds a part of the disk as it is: an extent, an external data file.
	File(ref Reference) (File, error)
	// Image opens a file that is an image of its own, of the named format: a backing file, a parent.
	Image(ref Reference, format string) (Reader, error)
}

// OpenFile opens a file that ref names, if that is allowed.
func (o OpenOptions) OpenFile(ref Reference) (File, error) {
	if o.Refs == nil {
		return nil, denied(ref)
	}
	return o.Refs.File(ref)
}

// OpenImage opens an image that ref names, if that is allowed.
func (o OpenOptions) OpenImage(ref Reference, format string) (Reader, error) {
	if o.Refs == nil {
		return nil, denied(ref)
	}
	return o.Refs.Image(ref, format)
}

func denied(ref Reference) error {
	return Referencef("the image needs its %s %q, and other files are not opened unless references are allowed (--refs samedir: files of the same folder)",
		ref.Kind, ref.Name)
}

// RefuseSnapshot is the error of a format without internal snapshots that was asked for one.
func (o OpenOptions) RefuseSnapshot(format string) error {
	if o.Snapshot == "" {
		return nil
	}
	return Unsupportedf("%s: there is no snapshot %q: the format has no internal snapshots", format, o.Snapshot)
}
