package vmdk

import (
	"bytes"
	"strconv"
	"strings"

	"github.com/hyperplane-project/hyperplane/converters/image"
)

const (
	// maxDescriptor is the largest descriptor that is read. VMware's reserve is 10 KiB.
	maxDescriptor = 512 << 10
	maxExtents    = 4096
	descriptorTag = "# disk descriptorfile"
)

// descriptor is the text that describes a disk: in a file of its own, or embedded in a sparse extent.
type descriptor struct {
	createType string
	parentCID  string
	parentHint string
	extents    []extentLine
}

// extentLine names one file of a disk. The name is attacker-controlled bytes in an unknown encoding.
type extentLine struct {
	access  string // RW, RDONLY or NOACCESS
	sectors uint64
	kind    string // SPARSE, FLAT, ZERO, VMFS, …
	name    string
}

// noParent is the parentCID of a disk that is no differencing disk.
const noParent = "ffffffff"

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
		if e, ok := parseExtent(s); ok {
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
	case "parentcid":
		d.parentCID = strings.ToLower(value)
	case "parentfilenamehint":
		d.parentHint = value
	}
}

// parseExtent reads a line such as: RW 4192256 SPARSE "disk-s001.vmdk".
func parseExtent(s string) (extentLine, bool) {
	access, rest, _ := strings.Cut(s, " ")
	access = strings.ToUpper(access)
	if access != "RW" && access != "RDONLY" && access != "NOACCESS" {
		return extentLine{}, false
	}
	count, rest, _ := strings.Cut(strings.TrimSpace(rest), " ")
	sectors, err := strconv.ParseUint(count, 10, 64)
	if err != nil {
		return extentLine{}, false
	}
	kind, rest, _ := strings.Cut(strings.TrimSpace(rest), " ")
	e := extentLine{access: access, sectors: sectors, kind: strings.ToUpper(kind)}
	if from := strings.IndexByte(rest, '"'); from >= 0 {
		if to := strings.LastIndexByte(rest, '"'); to > from {
			e.name = rest[from+1 : to]
		}
	}
	return e, true
}

func unquote(s string) string {
	if len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"' {
		return s[1 : len(s)-1]
	}
	return s
}

// checkSelfContained refuses an embedded descriptor of a disk that is more than this file. The name on its extent line is not looked at: it is
// often a name the file had once.
func (d *descriptor) checkSelfContained() error {
	if err := d.checkParent(); err != nil {
		return err
	}
	if n := len(d.extents); n > 1 {
		return image.Referencef("vmdk: the disk (%s) consists of %d extents, the second is %q, and other files are not opened; merge them first: qemu-img convert",
			d.createType, n, d.extents[1].name)
	}
	if len(d.extents) == 1 && d.extents[0].kind != "SPARSE" {
		return image.Unsupportedf("vmdk: the embedded descriptor has an extent of kind %q; only SPARSE is read", d.extents[0].kind)
	}
	if len(d.extents) == 1 && d.extents[0].access == "NOACCESS" {
		return image.Unsupportedf("vmdk: the embedded descriptor forbids access to its extent")
	}
	return nil
}

func (d *descriptor) checkParent() error {
	if d.parentCID == noParent && d.parentHint == "" {
		return nil
	}
	return image.Referencef("vmdk: the disk (%s) holds only the differences to its parent %q, and other files are not opened; consolidate the snapshots first",
		d.createType, d.parentHint)
}

// refuse says why a disk with a descriptor file of its own is not read.
func (d *descriptor) refuse() error {
	switch strings.ToLower(d.createType) {
	case "fulldevice", "partitioneddevice", "vmfsraw", "vmfsrdm", "vmfsrdmp", "vmfsrawdevicemap", "vmfspassthroughrawdevicemap":
		return image.Unsupportedf("vmdk: the disk (%s) stands for a physical device", d.createType)
	}
	if err := d.checkParent(); err != nil {
		return err
	}
	if len(d.extents) == 0 {
		return image.Corruptf("vmdk: the descriptor (%s) names no extent", d.createType)
	}
	return image.Referencef("vmdk: the file only describes the disk (%s), whose content is in %d other files, the first is %q; other files are not opened; "+
		"make one file of them first: qemu-img convert", d.createType, len(d.extents), d.extents[0].name)
}
