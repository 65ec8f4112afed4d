package vhd

import (
	"github.com/hyperplane-project/hyperplane/converters/image"
)

// Format returns the format's entry for the list of formats.
func Format() image.Format {
	return image.Format{Name: "vhd", Open: Open, Create: Create}
}

// Open reads f as a VHD of any kind. The parent of a differencing disk is opened through o and must be the one the disk was made for. A file none of
// whose footers has a right checksum is refused, unless o.Force is set; one right footer is enough.
func Open(f image.File, o image.OpenOptions) (image.Reader, error) {
	found, err := readFooters(f)
	if err != nil {
		return nil, err
	}
	if err := refuseParts(o); err != nil {
		return nil, err
	}
	foot, warnings, err := found.choose(o.Force)
	if err != nil {
		return nil, err
	}
	size, err := foot.virtualSize(o.SizeRule)
	if err != nil {
		return nil, err
	}
	b := base{f: f, footers: found, foot: foot, end: found.end(f.Size())}
	b.info = image.Info{
		Format: "vhd", Variant: foot.kind.String(), VirtualSize: size, FileSize: f.Size(), SectorSize: sectorSize, ContentID: contentID(foot.id),
		Warnings: warnings,
	}
	if foot.kind == fixed {
		return openFixed(b)
	}
	r, err := openSparse(b, o.Force)
	if err != nil {
		return nil, err
	}
	if foot.kind == differencing && !o.InfoOnly {
		return r.withParent(o)
	}
	return r, nil
}

// refuseParts refuses to be asked for a part of the image: it has one disk in one state.
func refuseParts(o image.OpenOptions) error {
	if o.Member != "" {
		return image.Unsupportedf("vhd: there is no member %q: the format is no archive", o.Member)
	}
	return o.RefuseSnapshot("vhd")
}

// base is what readers of all kinds have.
type base struct {
	f       image.File
	footers footers
	foot    footer
	info    image.Info
	end     int64 // where the content must end: at the footer, or at the file's end if it lacks one
}

// Info describes the image.
func (b *base) Info() image.Info { return b.info }

// BytesRead returns how much of the file was read, or 0 if it does not count.
func (b *base) BytesRead() int64 { return image.BytesRead(b.f) }

// Close closes the file.
func (b *base) Close() error { return b.f.Close() }

func (b *base) warn(text string) { b.info.Warnings = append(b.info.Warnings, text) }
