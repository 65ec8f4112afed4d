// Package foreign recognises files that are not raw disks although Hyperplane does not read them, so that they are refused by name instead of
// being taken for raw. A format that gets a package of its own leaves this list.
package foreign

import (
	"bytes"
	"errors"
	"io"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// signature is a magic at a place in the file; a negative place counts from the end.
type signature struct {
	format string
	at     int64
	magic  string
	advice string
}

const (
	convert = "convert it to qcow2 first: qemu-img convert"
	unpack  = "unpack it first"
)

func signatures() []signature {
	return []signature{
		{"qed", 0, "QED\x00", convert},
		{"parallels", 0, "WithoutFreeSpace", convert},
		{"parallels", 0, "WithouFreSpacExt", convert},
		{"dmg", -512, "koly", convert},
		{"gzip", 0, "\x1f\x8b\x08", unpack},
		{"xz", 0, "\xfd7zXZ\x00", unpack},
		{"zstd", 0, "\x28\xb5\x2f\xfd", unpack},
		{"bzip2", 0, "BZh", unpack},
		{"zip", 0, "PK\x03\x04", unpack},
		{"7z", 0, "7z\xbc\xaf\x27\x1c", unpack},
	}
}

// Formats returns an entry for each format that is recognised.
func Formats() []image.Format {
	var all []image.Format
	for _, s := range signatures() {
		all = append(all, image.Format{Name: s.format, Open: s.refuse})
	}
	return all
}

func (s signature) refuse(f image.File, _ image.OpenOptions) (image.Reader, error) {
	at := s.at
	if at < 0 {
		at += f.Size()
	}
	if at < 0 {
		return nil, image.ErrWrongFormat
	}
	b := make([]byte, len(s.magic))
	n, err := f.ReadAt(b, at)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fault.Wrap(err, "look for a %s file", s.format)
	}
	if !bytes.Equal(b[:n], []byte(s.magic)) {
		return nil, image.ErrWrongFormat
	}
	return nil, image.Unsupportedf("the file is of format %s, which is not read; %s", s.format, s.advice)
}
