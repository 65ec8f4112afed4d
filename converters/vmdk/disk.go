package vmdk

import (
	"errors"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// openDescriptor reads the disk that the descriptor file f describes. It reads one sector or two of each extent.
func openDescriptor(f image.File, o image.OpenOptions) (image.Reader, error) {
	d, err := readDescriptorFile(f)
	if err != nil {
		return nil, err
	}
	size, err := d.size()
	if err != nil {
		return nil, err
	}
	j := &joined{f: f, caches: &caches{}}
	r := &reader{content: j, info: image.Info{
		Format: "vmdk", Variant: d.createType, VirtualSize: size, FileSize: f.Size(), SectorSize: sectorSize, ContentID: d.cid, References: d.references(),
	}}
	if d.createType == "" {
		r.info.Warnings = append(r.info.Warnings, "vmdk: the descriptor does not say of which kind the disk is (createType)")
	}
	if o.InfoOnly {
		return r, nil
	}
	if err := j.open(d.extents, o); err != nil {
		return nil, errors.Join(err, j.closeExtents())
	}
	j.describe(&r.info)
	disk, err := d.withParent(r, o)
	if err != nil {
		return nil, errors.Join(err, j.closeExtents())
	}
	return disk, nil
}

// readDescriptorFile reads a descriptor and refuses what cannot be read by it alone.
func readDescriptorFile(f image.File) (*descriptor, error) {
	if f.Size() > maxDescriptor {
		return nil, image.Limitf("vmdk: a descriptor of %d bytes exceeds %d", f.Size(), maxDescriptor)
	}
	text := make([]byte, f.Size())
	if err := image.ReadFull(f, text, 0, "vmdk descriptor"); err != nil {
		return nil, err
	}
	d, err := parseDescriptor(text)
	if err != nil {
		return nil, err
	}
	if err := d.checkKind(); err != nil {
		return nil, err
	}
	if len(d.extents) == 0 {
		return nil, image.Corruptf("vmdk: the descriptor (%s) names no extent", d.createType)
	}
	for _, e := range d.extents {
		if err := e.check(); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// open opens the extents' files. On error those that were opened stay so.
func (j *joined) open(lines []extentLine, o image.OpenOptions) error {
	start := int64(0)
	for i, line := range lines {
		if line.sectors == 0 && line.kind == kindZero {
			continue
		}
		c, err := openExtent(line, j.caches, o)
		if err != nil {
			return fault.Wrap(err, "vmdk: extent %d of %d", i+1, len(lines))
		}
		j.parts = append(j.parts, part{content: c, start: start, size: line.size()})
		start += line.size()
	}
	return nil
}

// openExtent opens the file of one extent.
func openExtent(line extentLine, cache *caches, o image.OpenOptions) (content, error) {
	if line.kind == kindZero {
		return zeros{}, nil
	}
	f, err := o.OpenFile(line.reference())
	if err != nil {
		return nil, err
	}
	var c content
	if line.flat() {
		c, err = openFlat(f, line)
	} else {
		c, err = openGrains(f, line, cache)
	}
	if err != nil {
		return nil, errors.Join(fault.Wrap(err, "%q", line.name), f.Close())
	}
	return c, nil
}

// describe adds to what the descriptor says what the extents' files say.
func (j *joined) describe(info *image.Info) {
	for _, p := range j.parts {
		switch c := p.content.(type) {
		case *flat:
			info.FileSize += c.f.Size()
		case *grains:
			c.describe(info)
		case *sparse:
			c.describe(info)
			if c.h.compressed() {
				info.Compression = "zlib"
			}
		}
	}
}
