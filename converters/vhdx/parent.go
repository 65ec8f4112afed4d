package vhdx

import (
	"encoding/binary"
	"errors"
	"strings"
	"unicode/utf16"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/internal/overlay"
)

const (
	locatorHeader = 20
	locatorEntry  = 12
	// linkage is the key of the parent's DataWriteGuid.
	linkage = "parent_linkage"
)

// nameKeys are the keys under which a parent locator has the parent's name, in the order of preference ([MS-VHDX] 2.6.2.6.3).
func nameKeys() []string { return []string{"relative_path", "absolute_win32_path", "volume_path"} }

// parseLocator decodes a parent locator: its keys and values ([MS-VHDX] 2.6.2.6).
func parseLocator(b []byte) (map[string]string, error) {
	le := binary.LittleEndian
	if id := guid(b[:16]).String(); id != locatorVHDX {
		return nil, image.Unsupportedf("vhdx: the parent locator is of type %s; only parents that are vhdx are known", id)
	}
	all := map[string]string{}
	n := int(le.Uint16(b[18:]))
	if n > (len(b)-locatorHeader)/locatorEntry {
		return nil, image.Corruptf("vhdx: a parent locator of %d bytes has no room for %d entries", len(b), n)
	}
	for i := range n {
		e := b[locatorHeader+i*locatorEntry:]
		key, keyOK := text(b, le.Uint32(e), le.Uint16(e[8:]))
		value, valueOK := text(b, le.Uint32(e[4:]), le.Uint16(e[10:]))
		if !keyOK || !valueOK {
			return nil, image.Corruptf("vhdx: entry %d of the parent locator is not inside it", i)
		}
		all[key] = value
	}
	return all, nil
}

// text decodes UTF-16 in n bytes of b at the given offset.
func text(b []byte, at uint32, n uint16) (string, bool) {
	if int64(at)+int64(n) > int64(len(b)) {
		return "", false
	}
	b = b[at:][:n]
	units := make([]uint16, 0, n/2)
	for ; len(b) >= 2; b = b[2:] {
		units = append(units, binary.LittleEndian.Uint16(b))
	}
	return string(utf16.Decode(units)), true
}

// nameParent notes which file the parent is and what it must be.
func (r *reader) nameParent() error {
	keys, err := parseLocator(r.disk.locator)
	if err != nil {
		return err
	}
	ref := image.Reference{Kind: "parent", Format: "vhdx"}
	for _, key := range nameKeys() {
		if ref.Name == "" {
			ref.Name = keys[key]
		}
	}
	r.info.References = []image.Reference{ref}
	r.parentID = strings.ToLower(strings.Trim(keys[linkage], "{}"))
	return nil
}

// plainName returns the last part of a path of Windows or Unix. The folders in it are those of another machine, and whoever made the image chose them.
func plainName(path string) string {
	return path[strings.LastIndexAny(path, `\/:`)+1:]
}

// withParent lays the disk over its parent.
func (r *reader) withParent(o image.OpenOptions) (image.Reader, error) {
	ref := r.info.References[0]
	ref.Name = plainName(ref.Name)
	parent, err := o.OpenImage(ref, "vhdx")
	if err != nil {
		return nil, err
	}
	if got := parent.Info().ContentID; got != r.parentID {
		err := image.Referencef("vhdx: the image was made for a parent with the DataWriteGuid %q; %q has %s", r.parentID, ref.Name, got)
		return nil, errors.Join(err, parent.Close())
	}
	return overlay.New(r, parent), nil
}
