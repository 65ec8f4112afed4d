package vmdk

import (
	"github.com/hyperplane-project/hyperplane/converters/image"
)

// single is a disk that is one hosted sparse file.
type single struct {
	reader
	sparse *sparse
}

var _ image.ChunkReader = (*single)(nil)

// openSingle opens a sparse file with an embedded descriptor.
func openSingle(f image.File, h *header, o image.OpenOptions) (image.Reader, error) {
	d, err := readEmbedded(f, h)
	if err != nil {
		return nil, err
	}
	s, err := newSparse(f, h, &caches{})
	if err != nil {
		return nil, err
	}
	r := &single{sparse: s, reader: reader{content: s, info: image.Info{
		Format: "vmdk", Variant: "monolithicSparse", VirtualSize: s.size, SectorSize: sectorSize, ContentID: d.cid,
	}}}
	s.describe(&r.info)
	if h.compressed() {
		r.info.Variant, r.info.Compression = "streamOptimized", "zlib"
	}
	if d.createType == "" {
		r.info.Warnings = append(r.info.Warnings, "vmdk: the file has no descriptor")
	}
	if d.differencing() {
		r.info.References = []image.Reference{d.parent()}
	}
	return d.withParent(r, o)
}

// ReadChunks calls fn for the compressed grains of [off, off+n).
func (r *single) ReadChunks(off, n int64, fn func(image.Chunk) error) error {
	return r.sparse.ReadChunks(off, n, fn)
}

const noDescriptor = "vmdk: the file has no descriptor: it is one extent of a disk of several files; open the disk's descriptor file instead"

// readEmbedded reads the embedded descriptor. An extent without one belongs to a disk of several files, save that some tools leave it out of
// streams; then the descriptor is empty.
func readEmbedded(f image.File, h *header) (*descriptor, error) {
	if h.descriptorOffset == 0 || h.descriptorSize == 0 {
		if h.compressed() {
			return &descriptor{parentCID: noParent}, nil
		}
		return nil, image.Referencef(noDescriptor)
	}
	if h.descriptorSize > maxDescriptor/sectorSize {
		return nil, image.Limitf("vmdk: an embedded descriptor of %d sectors exceeds %d bytes", h.descriptorSize, maxDescriptor)
	}
	n := int64(h.descriptorSize) * sectorSize
	if h.descriptorOffset > uint64(f.Size()) || int64(h.descriptorOffset)*sectorSize > f.Size()-n {
		return nil, image.Truncatedf("vmdk: the descriptor at sector %d reaches past the end of the file at %d", h.descriptorOffset, f.Size())
	}
	text := make([]byte, n)
	if err := image.ReadFull(f, text, int64(h.descriptorOffset)*sectorSize, "vmdk descriptor"); err != nil {
		return nil, err
	}
	return parseEmbedded(text, h.compressed())
}

// parseEmbedded refuses an embedded descriptor that is none, or of a disk that has content in other files.
func parseEmbedded(text []byte, compressed bool) (*descriptor, error) {
	d, err := parseDescriptor(text)
	switch {
	case err != nil:
		return nil, err
	case d.createType == "" && compressed:
		return nil, image.Corruptf("vmdk: there is no descriptor where the header says")
	case d.createType == "":
		return nil, image.Referencef(noDescriptor)
	}
	return d, d.checkSelfContained()
}
