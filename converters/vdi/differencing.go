package vdi

import (
	"errors"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/internal/overlay"
)

// openDifferences lays the image over its parent.
func (r *reader) openDifferences(o image.OpenOptions) (image.Reader, error) {
	want := textUUID(r.h.parent)
	if want == "" {
		return nil, image.Corruptf("vdi: the image holds differences (type 4) but has no parent's UUID at offset %d", atParent)
	}
	// VirtualBox names the files of snapshots so.
	ref := image.Reference{Kind: "parent", Name: "{" + want + "}.vdi", Format: "vdi"}
	r.info.References = []image.Reference{ref}
	if o.InfoOnly {
		return r, nil
	}
	if o.Refs == nil {
		return nil, image.Referencef("vdi: the image holds only the differences to the disk with UUID %s; a VDI stores no name of its parent, "+
			"and other files are not opened unless references are allowed: the parent must then be in the image's folder as %q", want, ref.Name)
	}
	parent, err := o.OpenImage(ref, ref.Format)
	if err != nil {
		return nil, err
	}
	if got := parent.Info().ContentID; got != want {
		return nil, errors.Join(image.Referencef("vdi: %q has UUID %s, but the image holds the differences to %s", ref.Name, got, want), parent.Close())
	}
	return overlay.New(r, parent), nil
}
