package vmdk

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"github.com/hyperplane-project/hyperplane/converters/image"
)

const (
	// maxDescriptor is the largest descriptor that is read. VMware's reserve is 10 KiB.
	maxDescriptor = 512 << 10
	maxExtents    = 4096
	descriptorTag = "# disk descriptorfile"
	// noParent is the parentCID of a disk that is no differencing disk.
	noParent = "ffffffff"
)

// descriptor is the text that describes a disk: in a file of its own, or embedded in a sparse extent.
type descriptor struct {
	createType string
	cid        string // as contentID returns it
	parentCID  string
	parentHint string
	extents    []extentLine
}

// isDescriptor reports whether b begins like a descriptor.
func isDescriptor(b []byte) bool {
	b = bytes.TrimLeft(b, " \t\r\n")
	return len(b) >= len(descriptorTag) && strings.EqualFold(string(b[:len(descriptorTag)]), descriptorTag)
}

// parseDescriptor reads a descriptor's text, up to the first NUL. Keys are case-insensitive, blanks around = and quotes are optional: VMware,
// VirtualBox and QEMU each write them differently.
func parseDescriptor(text []byte) (*descriptor, error) {
	if i := bytes.IndexByte(text, 0); i >= 0 {
		text = text[:i]
	}
	d := &descriptor{parentCID: noParent}
	for line := range bytes.Lines(text) {
		s := strings.TrimSpace(string(line))
		if s == "" || s[0] == '#' {
			continue
		}
		e, ok, err := parseExtent(s)
		if err != nil {
			return nil, err
		}
		if ok {
			if len(d.extents) == maxExtents {
				return nil, image.Limitf("vmdk: the descriptor names more than %d extents", maxExtents)
			}
			d.extents = append(d.extents, e)
			continue
		}
		if key, value, ok := strings.Cut(s, "="); ok {
			d.set(strings.ToLower(strings.TrimSpace(key)), unquote(strings.TrimSpace(value)))
		}
	}
	return d, nil
}

func (d *descriptor) set(key, value string) {
	switch key {
	case "createtype":
		d.createType = value
	case "cid":
		d.cid = contentID(value)
	case "parentcid":
		d.parentCID = contentID(value)
	case "parentfilenamehint":
		d.parentHint = value
	}
}

// contentID returns a CID as eight lower-case hexadecimal digits. A text that is no such number stays what it is.
func contentID(s string) string {
	if n, err := strconv.ParseUint(s, 16, 32); err == nil {
		return fmt.Sprintf("%08x", n)
	}
	return strings.ToLower(s)
}

func unquote(s string) string {
	if len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"' {
		return s[1 : len(s)-1]
	}
	return s
}

// checkSelfContained refuses an embedded descriptor of a disk that has content in other files, a parent aside. The name on its extent line is not
// looked at: it is often a name the file had once.
func (d *descriptor) checkSelfContained() error {
	if n := len(d.extents); n > 1 {
		return image.Referencef("vmdk: the disk (%s) consists of %d extents, the second is %q, and this file is the first; open the disk's descriptor file instead",
			d.createType, n, d.extents[1].name)
	}
	for _, e := range d.extents {
		if e.kind != "SPARSE" {
			return image.Unsupportedf("vmdk: the embedded descriptor has an extent of kind %q; only SPARSE is read", e.kind)
		}
		if err := e.checkAccess(); err != nil {
			return err
		}
	}
	return nil
}

// checkKind refuses disks that are no files at all.
func (d *descriptor) checkKind() error {
	switch strings.ToLower(d.createType) {
	case "fulldevice", "partitioneddevice", "vmfsraw", "vmfsrdm", "vmfsrdmp", "vmfsrawdevicemap", "vmfspassthroughrawdevicemap":
		return image.Unsupportedf("vmdk: the disk (%s) stands for a physical device", d.createType)
	}
	return nil
}

// size returns the size of the disk in bytes.
func (d *descriptor) size() (int64, error) {
	var sectors uint64
	for i, e := range d.extents {
		if sectors += e.sectors; sectors > maxSectors {
			return 0, image.Limitf("vmdk: the extents up to number %d, %q, have %d sectors together, more than %d", i+1, e.name, sectors, uint64(maxSectors))
		}
	}
	return int64(sectors) * sectorSize, nil
}

// references returns the other files that the descriptor of a disk of several files names.
func (d *descriptor) references() []image.Reference {
	var refs []image.Reference
	for _, e := range d.extents {
		if e.kind != kindZero {
			refs = append(refs, e.reference())
		}
	}
	if d.differencing() {
		refs = append(refs, d.parent())
	}
	return refs
}
