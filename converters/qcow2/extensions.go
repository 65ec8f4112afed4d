package qcow2

import (
	"encoding/binary"
	"fmt"

	"github.com/hyperplane-project/hyperplane/converters/image"
)

// Header extensions that say something about reading.
const (
	extensionEnd     = 0
	extensionBitmaps = 0x23852875
	extensionData    = 0x44415441
)

// maxExtensions bounds how much of the first cluster is searched for header extensions.
const maxExtensions = 64 << 10

// references collects the names of the files the image needs, and warnings about what reading leaves out.
func (h *header) references(f image.File, info *image.Info) error {
	if h.features&featureDirty != 0 {
		info.Warnings = append(info.Warnings, "qcow2: the image was not closed cleanly; its refcounts are not used for reading")
	}
	if h.features&featureCorrupt != 0 {
		info.Warnings = append(info.Warnings, "qcow2: the image is marked as corrupt by the program that wrote it")
	}
	if h.snapshots > 0 {
		info.Warnings = append(info.Warnings, fmt.Sprintf("qcow2: %d internal snapshots are not read, only the current state", h.snapshots))
	}
	if h.backingOffset != 0 {
		name, err := h.backingName(f)
		if err != nil {
			return err
		}
		info.References = append(info.References, image.Reference{Kind: "backing", Name: name})
	}
	return h.extensions(f, info)
}

func (h *header) backingName(f image.File) (string, error) {
	if h.backingSize > maxNameLength || h.backingSize == 0 || h.backingOffset > uint64(h.cluster())-uint64(h.backingSize) {
		return "", image.Corruptf("qcow2: backing file name of %d bytes at offset %d is not inside the header cluster", h.backingSize, h.backingOffset)
	}
	name := make([]byte, h.backingSize)
	if err := image.ReadFull(f, name, int64(h.backingOffset), "qcow2 backing file name"); err != nil {
		return "", err
	}
	return string(name), nil
}

// extensions walks the header extensions. Unknown ones are skipped, as the format wants.
func (h *header) extensions(f image.File, info *image.Info) error {
	end := min(h.cluster(), f.Size(), maxExtensions)
	if h.backingOffset != 0 {
		end = min(end, int64(h.backingOffset))
	}
	b := make([]byte, max(0, end-int64(h.length)))
	if err := image.ReadFull(f, b, int64(h.length), "qcow2 header extensions"); err != nil {
		return err
	}
	for len(b) >= 8 {
		kind, n := binary.BigEndian.Uint32(b), uint64(binary.BigEndian.Uint32(b[4:]))
		if kind == extensionEnd {
			break
		}
		b = b[8:]
		if n > uint64(len(b)) {
			return image.Corruptf("qcow2: header extension %#x of %d bytes reaches past the header", kind, n)
		}
		switch kind {
		case extensionBitmaps:
			info.Warnings = append(info.Warnings, "qcow2: dirty bitmaps are not read")
		case extensionData:
			info.References = append(info.References, image.Reference{Kind: "data-file", Name: string(b[:min(n, maxNameLength)])})
		}
		b = b[min(uint64(len(b)), (n+7)/8*8):]
	}
	if h.features&featureExternalData != 0 && !hasReference(info, "data-file") {
		info.References = append(info.References, image.Reference{Kind: "data-file"})
	}
	return nil
}

func hasReference(info *image.Info, kind string) bool {
	for _, r := range info.References {
		if r.Kind == kind {
			return true
		}
	}
	return false
}
