package vmdk

import (
	"errors"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/internal/overlay"
)

// differencing reports whether the disk holds only the differences to a parent.
func (d *descriptor) differencing() bool { return d.parentCID != noParent || d.parentHint != "" }

func (d *descriptor) parent() image.Reference {
	return image.Reference{Kind: "parent", Name: d.parentHint, Format: "vmdk"}
}

// withParent lays the disk over its parent, if it has one. On error child stays open.
func (d *descriptor) withParent(child image.Reader, o image.OpenOptions) (image.Reader, error) {
	if !d.differencing() || o.InfoOnly {
		return child, nil
	}
	if d.parentHint == "" {
		return nil, image.Referencef("vmdk: the disk (%s) holds only the differences to a parent with content ID %s, whose file it does not name; "+
			"consolidate the snapshots first", d.createType, d.parentCID)
	}
	parent, err := o.OpenImage(d.parent(), "vmdk")
	if err != nil {
		return nil, err
	}
	if id := parent.Info().ContentID; id != d.parentCID {
		err := image.Referencef("vmdk: the parent %q has content ID %s, the disk (content ID %s) is based on %s: the parent was changed since, or is another disk",
			d.parentHint, id, d.cid, d.parentCID)
		return nil, errors.Join(err, parent.Close())
	}
	return overlay.New(child, parent), nil
}
