package vmdk

import (
	"bytes"
	"errors"
	"io"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// Format returns the format's entry for the list of formats.
func Format() image.Format {
	return image.Format{Name: "vmdk", Open: Open, OpenStream: OpenStream, Create: Create}
}

// The magics of ESXi's own kinds of sparse extent.
var (
	cowdMagic     = []byte("COWD")
	seSparseMagic = []byte{0xbe, 0xba, 0xfe, 0xca, 0, 0, 0, 0}
)

// Open reads f as a VMDK that is one file: monolithicSparse or streamOptimized. Every other kind is refused with an error that wraps
// image.ErrReference if the disk needs other files, image.ErrUnsupported otherwise, and names the kind.
func Open(f image.File, o image.OpenOptions) (image.Reader, error) {
	b := make([]byte, sectorSize)
	n, err := f.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fault.Wrap(err, "vmdk: read the header")
	}
	b = b[:n]
	switch {
	case bytes.HasPrefix(b, cowdMagic):
		return nil, image.Unsupportedf("vmdk: vmfsSparse (COWD) extents of ESX snapshots are not read; consolidate the snapshots or export the VM")
	case bytes.HasPrefix(b, seSparseMagic):
		return nil, image.Unsupportedf("vmdk: seSparse extents of ESXi snapshots are not read; consolidate the snapshots or export the VM")
	case isDescriptor(b):
		return nil, refuseDescriptor(f)
	}
	h, err := parseHeader(b)
	if err != nil {
		return nil, err
	}
	return openSparse(f, h)
}

// refuseDescriptor reads a descriptor file and says what kind of disk it describes.
func refuseDescriptor(f image.File) error {
	if f.Size() > maxDescriptor {
		return image.Limitf("vmdk: a descriptor of %d bytes exceeds %d", f.Size(), maxDescriptor)
	}
	text := make([]byte, f.Size())
	if err := image.ReadFull(f, text, 0, "vmdk descriptor"); err != nil {
		return err
	}
	d, err := parseDescriptor(text)
	if err != nil {
		return err
	}
	return d.refuse()
}
