package qcow2

import (
	"errors"
	"fmt"
	"slices"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/internal/overlay"
)

// describe collects the names of the files the image needs, and warnings about what reading leaves out.
func (r *reader) describe() (err error) {
	h := r.file
	warn := func(format string, args ...any) {
		r.info.Warnings = append(r.info.Warnings, "qcow2: "+fmt.Sprintf(format, args...))
	}
	if h.features&featureDirty != 0 {
		warn("the image was not closed cleanly; its refcounts are not used for reading")
	}
	if h.features&featureCorrupt != 0 {
		warn("the image is marked as corrupt by the program that wrote it")
	}
	if r.ext, err = h.readExtensions(r.f); err != nil {
		return err
	}
	if r.ext.bitmaps != nil {
		warn("dirty bitmaps are not read")
	}
	if h.backingOffset != 0 {
		name, err := h.backingName(r.f)
		if err != nil {
			return err
		}
		ref := image.Reference{Kind: "backing", Name: name, Format: formatOf(r.ext.backingFormat)}
		if ref.Format == "" && r.ext.backingFormat != "" {
			warn("the backing file is of format %q, which is not read", r.ext.backingFormat)
		}
		r.info.References = append(r.info.References, ref)
	}
	if h.external() || r.ext.dataFile != nil {
		ref := image.Reference{Kind: "data-file"}
		if r.ext.dataFile != nil {
			ref.Name = *r.ext.dataFile
		}
		r.info.References = append(r.info.References, ref)
	}
	return nil
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

// openReferences opens the other files and returns the whole disk. On error none is left open.
func (r *reader) openReferences(o image.OpenOptions) (image.Reader, error) {
	if err := r.openData(o); err != nil {
		return nil, err
	}
	ref, ok := r.reference("backing")
	if !ok {
		return r, nil
	}
	parent, err := r.openBacking(ref, o)
	if err != nil {
		return nil, errors.Join(err, r.closeData())
	}
	return overlay.New(r, parent), nil
}

// openData opens the external data file, if there is one.
func (r *reader) openData(o image.OpenOptions) error {
	ref, ok := r.reference("data-file")
	if !ok {
		return nil
	}
	if !r.h.external() {
		return image.Referencef("qcow2: the image names an external data file %q but lacks the feature bit that says that it has one", ref.Name)
	}
	f, err := o.OpenFile(ref)
	if err != nil {
		return err
	}
	r.data = f
	return nil
}

func (r *reader) closeData() error {
	if r.data == r.f {
		return nil
	}
	return r.data.Close()
}

func (r *reader) openBacking(ref image.Reference, o image.OpenOptions) (image.Reader, error) {
	if ref.Format == "" && r.ext.backingFormat != "" {
		return nil, image.Unsupportedf("qcow2: the backing file %q is of format %q, which is not read", ref.Name, r.ext.backingFormat)
	}
	return o.OpenImage(ref, ref.Format)
}

func (r *reader) reference(kind string) (image.Reference, bool) {
	i := slices.IndexFunc(r.info.References, func(ref image.Reference) bool { return ref.Kind == kind })
	if i < 0 {
		return image.Reference{}, false
	}
	return r.info.References[i], true
}
