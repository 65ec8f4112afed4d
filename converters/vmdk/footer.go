package vmdk

import (
	"errors"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// footerSize is a footer's marker, the footer and the end marker.
const footerSize = 3 * sectorSize

// readFooter reads the copy of the header at the end of a stream, which knows where the grain directory is.
func readFooter(f image.File, h *header) (*header, error) {
	b := make([]byte, footerSize)
	if f.Size() < footerSize {
		return nil, image.Truncatedf("vmdk: the file ends before its footer")
	}
	if err := image.ReadFull(f, b, f.Size()-footerSize, "vmdk footer"); err != nil {
		return nil, err
	}
	if m := parseMarker(b); m.size != 0 || m.kind != markerFooter {
		return nil, image.Truncatedf("vmdk: there is no footer at offset %d, 1536 bytes before the end of the file", f.Size()-footerSize)
	}
	if m := parseMarker(b[2*sectorSize:]); m.size != 0 || m.kind != markerEnd {
		return nil, image.Truncatedf("vmdk: there is no end marker in the last sector of the file")
	}
	return parseFooter(b[sectorSize:], h)
}

// parseFooter decodes a footer and checks it against the header.
func parseFooter(b []byte, h *header) (*header, error) {
	footer, err := parseHeader(b)
	if errors.Is(err, image.ErrWrongFormat) {
		return nil, image.Corruptf("vmdk: the footer does not begin with the magic")
	}
	if err != nil {
		return nil, fault.Wrap(err, "vmdk footer")
	}
	if footer.capacity != h.capacity || footer.grainSize != h.grainSize || footer.tableEntries != h.tableEntries || footer.flags != h.flags {
		return nil, image.Corruptf("vmdk: header and footer disagree: capacity %d and %d sectors, grain %d and %d, table entries %d and %d, flags %#x and %#x",
			h.capacity, footer.capacity, h.grainSize, footer.grainSize, h.tableEntries, footer.tableEntries, h.flags, footer.flags)
	}
	if footer.directoryOffset == gdAtEnd {
		return nil, image.Corruptf("vmdk: the footer does not say where the grain directory is")
	}
	return footer, nil
}
