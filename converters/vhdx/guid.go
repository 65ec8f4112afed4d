package vhdx

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
)

// guid is a GUID as it lies in a file: its first three parts are little-endian numbers.
type guid [16]byte

// The GUIDs of regions and metadata items ([MS-VHDX] 2.2.3.2 and 2.6.2).
const (
	regionBAT      = "2dc27766-f623-4200-9d64-115e9bfd4a08"
	regionMetadata = "8b7ca206-4790-4b9a-b8fe-575f050f886e"

	itemParameters     = "caa16737-fa36-4d43-b3b6-33f0aa44e76b"
	itemSize           = "2fa54224-cd1b-4876-b211-5dbed83bf4b8"
	itemDiskID         = "beca12ab-b2e6-4523-93ef-c309e000c746" // for SCSI page 83
	itemLogicalSector  = "8141bf1d-a96f-4709-ba47-f233a8faab5f"
	itemPhysicalSector = "cda348c7-445d-4471-9cc9-e9885251c556"
	itemParentLocator  = "a8d35f2d-b30b-454d-abf7-d3d84834ab0c"

	// locatorVHDX is the type of a parent locator whose parent is a VHDX.
	locatorVHDX = "b04aefb7-d19e-4a81-b789-25b8e9445913"
)

// String writes the GUID in the usual way, in lower case.
func (g guid) String() string {
	le := binary.LittleEndian
	return fmt.Sprintf("%08x-%04x-%04x-%x-%x", le.Uint32(g[:]), le.Uint16(g[4:]), le.Uint16(g[6:]), g[8:10], g[10:])
}

// makeGUID returns the bytes of a GUID given in the usual way. It is for constants.
func makeGUID(text string) guid {
	var b [16]byte
	_, _ = hex.Decode(b[:], []byte(strings.ReplaceAll(text, "-", ""))) // the text is a constant
	le := binary.LittleEndian
	le.PutUint32(b[:], binary.BigEndian.Uint32(b[:]))
	le.PutUint16(b[4:], binary.BigEndian.Uint16(b[4:]))
	le.PutUint16(b[6:], binary.BigEndian.Uint16(b[6:]))
	return b
}
