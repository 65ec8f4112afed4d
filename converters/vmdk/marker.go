package vmdk

import "encoding/binary"

// The kinds of metadata marker. A grain's marker has no kind: its size field is not zero.
const (
	markerEnd       = 0
	markerTable     = 1
	markerDirectory = 2
	markerFooter    = 3
	markerProgress  = 4 // written by some of VMware's tools; carries nothing
)

// grainMarkerSize is the size of {lba u64, size u32} before a grain's data.
const grainMarkerSize = 12

// marker is the sector before a piece of metadata in a streamOptimized file.
type marker struct {
	value uint64 // sectors of metadata that follow; of a grain, its first sector in the disk
	size  uint32 // bytes of compressed data; 0 for metadata
	kind  uint32
}

// encode returns a metadata marker's sector.
func (m marker) encode() []byte {
	b := make([]byte, sectorSize)
	binary.LittleEndian.PutUint64(b, m.value)
	binary.LittleEndian.PutUint32(b[8:], m.size)
	binary.LittleEndian.PutUint32(b[12:], m.kind)
	return b
}

// parseMarker decodes the first 16 bytes of a marker. Of a grain's marker, kind is compressed data.
func parseMarker(b []byte) marker {
	le := binary.LittleEndian
	return marker{value: le.Uint64(b), size: le.Uint32(b[8:]), kind: le.Uint32(b[12:])}
}
