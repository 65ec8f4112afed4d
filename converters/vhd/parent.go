package vhd

import (
	"encoding/binary"
	"errors"
	"strings"
	"unicode/utf16"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/internal/overlay"
)

// The platforms of parent locators that hold a path of Windows in UTF-16LE: relative to the image, and absolute.
const (
	relativePath = "W2ru"
	absolutePath = "W2ku"
	// maxPath is how many bytes the longest path of Windows has.
	maxPath = 64 << 10
)

// nameParent notes which file the parent is: the relative path, else the absolute one, else the name in the header. Locators that are damaged do not count.
func (r *sparseReader) nameParent() error {
	name, err := r.locatedName()
	if err != nil {
		return err
	}
	if name == "" {
		name = decodeName(r.head.parentName[:], binary.BigEndian)
	}
	r.info.References = []image.Reference{{Kind: "parent", Name: name, Format: "vhd"}}
	return nil
}

func (r *sparseReader) locatedName() (string, error) {
	for _, platform := range []string{relativePath, absolutePath} {
		for _, l := range r.head.locators {
			if l.platform != platform || l.length > maxPath || l.at > uint64(r.end) || int64(l.at) > r.end-int64(l.length) {
				continue
			}
			b := make([]byte, l.length)
			if err := image.ReadFull(r.f, b, int64(l.at), "vhd parent locator"); err != nil {
				return "", err
			}
			if name := decodeName(b, binary.LittleEndian); name != "" {
				return name, nil
			}
		}
	}
	return "", nil
}

// decodeName decodes UTF-16 up to its first zero.
func decodeName(b []byte, order binary.ByteOrder) string {
	var units []uint16
	for ; len(b) >= 2; b = b[2:] {
		u := order.Uint16(b)
		if u == 0 {
			break
		}
		units = append(units, u)
	}
	return string(utf16.Decode(units))
}

// plainName returns the last part of a path of Windows or Unix. The folders in it are those of another machine, and whoever made the image chose them.
func plainName(path string) string {
	return path[strings.LastIndexAny(path, `\/:`)+1:]
}

// withParent lays the disk over its parent.
func (r *sparseReader) withParent(o image.OpenOptions) (image.Reader, error) {
	ref := r.info.References[0]
	ref.Name = plainName(ref.Name)
	parent, err := o.OpenImage(ref, "vhd")
	if err != nil {
		return nil, err
	}
	want, got := contentID(r.head.parentID), parent.Info().ContentID
	if got != want {
		err := image.Referencef("vhd: the image was made for a parent with the unique id %s; %q has %s", want, ref.Name, got)
		return nil, errors.Join(err, parent.Close())
	}
	return overlay.New(r, parent), nil
}
