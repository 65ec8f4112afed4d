package vmdk

import (
	"encoding/hex"
	"fmt"
	"strings"
)

// maxCylinders bounds the geometry that the descriptor states; larger disks keep the bound.
const maxCylinders = 65535

// describe returns the text of the descriptor embedded in a streamOptimized file. The ddb lines are those without which ESXi refuses to
// import the disk or asks the user about VMware Tools.
func describe(capacity uint64, id [16]byte, o StreamOptions) string {
	cylinders := min(capacity/(255*63), maxCylinders)
	var b strings.Builder
	fmt.Fprintf(&b, "# Disk DescriptorFile\nversion=1\nCID=%s\nparentCID=ffffffff\n", hex.EncodeToString(id[12:]))
	fmt.Fprintf(&b, "createType=\"streamOptimized\"\n\n# Extent description\nRW %d SPARSE \"%s\"\n\n", capacity, fileName(o.Name))
	fmt.Fprintf(&b, "# The Disk Data Base\n#DDB\n\nddb.adapterType = \"%s\"\n", o.AdapterType)
	fmt.Fprintf(&b, "ddb.geometry.cylinders = \"%d\"\nddb.geometry.heads = \"255\"\nddb.geometry.sectors = \"63\"\n", cylinders)
	fmt.Fprintf(&b, "ddb.longContentID = \"%s\"\n", hex.EncodeToString(id[:]))
	fmt.Fprintf(&b, "ddb.toolsInstallType = \"4\"\nddb.toolsVersion = \"2147483647\"\nddb.virtualHWVersion = \"%d\"\n", o.HWVersion)
	return b.String()
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
