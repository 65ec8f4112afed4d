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

// Open reads f as a VMDK: a sparse file with an embedded descriptor (monolithicSparse, streamOptimized), or a descriptor file whose extents, and a
// parent, are opened through o. Without References a disk that needs other files is refused with an error that wraps image.ErrReference, and so is a file that
// is only one extent of a disk. Disks that stand for physical devices are refused with image.ErrUnsupported.
func Open(f image.File, o image.OpenOptions) (image.Reader, error) {
	b := make([]byte, sectorSize)
	n, err := f.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fault.Wrap(err, "vmdk: read the header")
	}
	b = b[:n]
	switch {
	case bytes.HasPrefix(b, []byte(cowdMagic)):
		return nil, extentAlone("vmfsSparse (COWD)", "-delta.vmdk")
	case bytes.HasPrefix(b, []byte(seSparseMagic)):
		return nil, extentAlone("seSparse", "-sesparse.vmdk")
	case isDescriptor(b):
		if err := refuseChoice(o); err != nil {
			return nil, err
		}
		return openDescriptor(f, o)
	}
	h, err := parseHeader(b)
	if err != nil {
		return nil, err
	}
	if err := refuseChoice(o); err != nil {
		return nil, err
	}
	return openSingle(f, h, o)
}

// extentAlone is the error for an extent of an ESXi snapshot that was opened without its descriptor.
func extentAlone(kind, suffix string) error {
	return image.Referencef("vmdk: the file is a %s extent of a disk; open the disk's descriptor instead: the small text file of the same name without %q, "+
		"with references allowed", kind, suffix[:len(suffix)-len(".vmdk")])
}

// refuseChoice refuses to look for something inside the disk that the format does not have.
func refuseChoice(o image.OpenOptions) error {
	if o.Member != "" {
		return image.Unsupportedf("vmdk: there is no member %q: the file is no archive", o.Member)
	}
	return o.RefuseSnapshot("vmdk")
}
