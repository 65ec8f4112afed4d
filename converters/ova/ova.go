// Package ova reads disks inside an OVA: a tar archive (DSP0243, section 5.3) of an OVF descriptor, the disks and a manifest. Nothing is unpacked. The
// archive's disks are VMDK files as a rule; which formats are looked for is the caller's choice.
package ova

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

const (
	// name is the format's name.
	name = "ova"
	// magicAt is where a tar header has its magic (POSIX.1-1988, ustar).
	magicAt = 257
	magic   = "ustar"
	// maxMembers bounds the archive's directory: an OVA has a handful of files.
	maxMembers = 1000
)

// Format returns the format's entry for the list of formats. inner are the formats that a disk in the archive may have.
func Format(inner ...image.Format) image.Format {
	a := archive{inner}
	return image.Format{Name: name, Open: a.open, OpenStream: a.openStream}
}

// archive knows the formats of the disks inside.
type archive struct{ inner []image.Format }

// formatOf returns the format of a member by its extension: content is not looked at to find one.
func (a archive) formatOf(member string) (image.Format, bool) {
	ext := strings.TrimPrefix(strings.ToLower(path.Ext(member)), ".")
	i := slices.IndexFunc(a.inner, func(f image.Format) bool { return f.Name == ext })
	if i < 0 {
		return image.Format{}, false
	}
	return a.inner[i], true
}

// member is a disk in the archive.
type member struct {
	name      string
	off, size int64
}

// open opens the disk that o.Member names, or the only one.
func (a archive) open(f image.File, o image.OpenOptions) (image.Reader, error) {
	if err := hasMagic(f); err != nil {
		return nil, err
	}
	if err := o.RefuseSnapshot(name); err != nil {
		return nil, err
	}
	disks, err := a.list(f)
	if err != nil {
		return nil, err
	}
	chosen, err := choose(disks, o.Member)
	if err != nil {
		if o.InfoOnly && o.Member == "" && len(disks) > 0 {
			return describe(f, disks), nil
		}
		return nil, err
	}
	format, _ := a.formatOf(chosen.name)
	// The disk's own references are files outside the archive: none of them is opened.
	r, err := format.Open(&section{f, chosen}, image.OpenOptions{InfoOnly: o.InfoOnly, Snapshot: o.Snapshot, SizeRule: o.SizeRule, Force: o.Force})
	if errors.Is(err, image.ErrWrongFormat) {
		return nil, image.Corruptf("ova: member %q is not of format %s", chosen.name, format.Name)
	}
	if err != nil {
		return nil, fault.Wrap(err, "ova: member %q", chosen.name)
	}
	return wrap(r, f, disks), nil
}

func hasMagic(f image.File) error {
	b := make([]byte, len(magic))
	n, err := f.ReadAt(b, magicAt)
	if err != nil && !errors.Is(err, io.EOF) {
		return fault.Wrap(err, "ova: read the first header")
	}
	if !bytes.Equal(b[:n], []byte(magic)) {
		return image.ErrWrongFormat
	}
	return nil
}

// list returns the archive's disks. Only headers are read.
func (a archive) list(f image.File) ([]member, error) {
	at := io.NewSectionReader(f, 0, f.Size())
	t := tar.NewReader(at)
	var disks []member
	for n := 0; ; n++ {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return disks, nil
		}
		if err != nil {
			return nil, damaged(err)
		}
		if n == maxMembers {
			return nil, image.Limitf("ova: the archive has more than %d members", maxMembers)
		}
		if _, ok := a.formatOf(h.Name); !ok || h.Typeflag != tar.TypeReg {
			continue
		}
		off, err := at.Seek(0, io.SeekCurrent)
		if err != nil {
			return nil, fault.Wrap(err, "ova")
		}
		if h.Size > f.Size()-off {
			return nil, image.Truncatedf("ova: member %q of %d bytes at offset %d reaches past the end of the file at %d", h.Name, h.Size, off, f.Size())
		}
		disks = append(disks, member{h.Name, off, h.Size})
	}
}

// damaged makes an image error of what package tar says. Errors of the file itself are passed on.
func damaged(err error) error {
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return image.Truncatedf("ova: the archive ends early")
	case errors.Is(err, tar.ErrHeader), errors.Is(err, tar.ErrFieldTooLong):
		return image.Corruptf("ova: %v", err)
	}
	return fault.Wrap(err, "ova: read the archive")
}

// choose returns the disk of the given name, or the only one.
func choose(disks []member, want string) (member, error) {
	var names []string
	for _, d := range disks {
		if d.name == want || want == "" && len(disks) == 1 {
			return d, nil
		}
		names = append(names, d.name)
	}
	switch {
	case len(disks) == 0:
		return member{}, fault.New(fault.InvalidArgument, "ova: there is no disk in the archive")
	case want == "":
		return member{}, fault.New(fault.InvalidArgument, "ova: the archive has %d disks; choose a member: %s", len(disks), strings.Join(names, ", "))
	}
	return member{}, fault.New(fault.NotFound, "ova: there is no disk %q in the archive; there is %s", want, strings.Join(names, ", "))
}
