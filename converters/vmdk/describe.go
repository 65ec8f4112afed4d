package vmdk

import (
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// maxCylinders bounds the geometry that the descriptor states; larger disks keep the bound.
const maxCylinders = 65535

// describe returns the text of a disk's descriptor. The ddb lines are those without which ESXi refuses to import a stream or asks the user about
// VMware Tools.
func describe(createType string, capacity uint64, extents []extentLine, o StreamOptions) string {
	id := o.ContentID
	cylinders := min(capacity/(255*63), maxCylinders)
	var b strings.Builder
	fmt.Fprintf(&b, "# Disk DescriptorFile\nversion=1\nCID=%s\nparentCID=ffffffff\n", hex.EncodeToString(id[12:]))
	fmt.Fprintf(&b, "createType=\"%s\"\n\n# Extent description\n", createType)
	for _, e := range extents {
		b.WriteString(e.text())
	}
	fmt.Fprintf(&b, "\n# The Disk Data Base\n#DDB\n\nddb.adapterType = \"%s\"\n", o.AdapterType)
	fmt.Fprintf(&b, "ddb.geometry.cylinders = \"%d\"\nddb.geometry.heads = \"255\"\nddb.geometry.sectors = \"63\"\n", cylinders)
	fmt.Fprintf(&b, "ddb.longContentID = \"%s\"\n", hex.EncodeToString(id[:]))
	fmt.Fprintf(&b, "ddb.toolsInstallType = \"4\"\nddb.toolsVersion = \"2147483647\"\nddb.virtualHWVersion = \"%d\"\n", o.HWVersion)
	return b.String()
}

// embed returns the text of the descriptor embedded in a sparse file, which is its only extent.
func embed(createType string, capacity uint64, o StreamOptions) (string, error) {
	extent := extentLine{sectors: capacity, kind: kindSparse, name: fileName(o.Name)}
	text := describe(createType, capacity, []extentLine{extent}, o)
	if len(text) > descriptorSectors*sectorSize {
		return "", fault.New(fault.InvalidArgument, "vmdk: the file name %q is too long for the descriptor", o.Name)
	}
	return text, nil
}

// text returns the line of an extent that may be written.
func (e extentLine) text() string {
	if e.flat() {
		return fmt.Sprintf("RW %d %s \"%s\" %d\n", e.sectors, e.kind, e.name, e.offset)
	}
	return fmt.Sprintf("RW %d %s \"%s\"\n", e.sectors, e.kind, e.name)
}

// fileName makes name fit between the descriptor's quotes.
func fileName(name string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == '"' || r == '/' || r == 0x7f {
			return '_'
		}
		return r
	}, name)
}
