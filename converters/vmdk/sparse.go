package vmdk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"sync"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/internal/mapped"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// sparse is a hosted sparse extent, plain or compressed.
type sparse struct {
	grains
	h       *header   // the footer, if there is one
	scratch sync.Pool // *scratch
}

var (
	_ content    = (*sparse)(nil)
	_ mapped.Map = (*sparse)(nil)
)

// openGrains opens one extent of a disk of several files, of any sparse kind. Old products put COWD extents on SPARSE lines.
func openGrains(f image.File, line extentLine, cache *caches) (content, error) {
	b := make([]byte, sectorSize)
	n, err := f.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fault.Wrap(err, "vmdk: read the header")
	}
	b = b[:n]
	switch {
	case line.kind == kindSESparse:
		return openSESparse(f, b, line, cache)
	case bytes.HasPrefix(b, []byte(cowdMagic)):
		return openCOWD(f, line, cache)
	}
	h, err := parseHeader(b)
	if errors.Is(err, image.ErrWrongFormat) {
		return nil, image.Corruptf("vmdk: the file is no sparse extent (%s): it begins with % x", line.kind, b[:min(len(b), 4)])
	}
	if err != nil {
		return nil, err
	}
	s, err := newSparse(f, h, cache)
	if err != nil {
		return nil, err
	}
	return s, line.checkCapacity(s.size)
}

// checkCapacity refuses an extent that holds less than the descriptor says.
func (e extentLine) checkCapacity(size int64) error {
	if size < e.size() {
		return image.Corruptf("vmdk: the descriptor says that the extent has %d sectors, its header says %d", e.sectors, size/sectorSize)
	}
	return nil
}

// newSparse reads what a hosted sparse extent needs besides its header.
func newSparse(f image.File, h *header, cache *caches) (*sparse, error) {
	unclean := h.unclean
	if h.directoryOffset == gdAtEnd {
		footer, err := readFooter(f, h)
		if err != nil {
			return nil, err
		}
		h = footer
	}
	e := &sparse{h: h, grains: grains{
		f: f, caches: cache, entries: hosted{h}, size: h.size(), grain: h.grain(), perTable: int64(h.tableEntries), width: 4, compressed: h.compressed(),
	}}
	if unclean {
		e.warnings = append(e.warnings, "vmdk: the file was not closed cleanly by the program that wrote it")
	}
	if err := e.start(); err != nil {
		return nil, err
	}
	return e, e.findDirectories()
}

// findDirectories chooses which grain directories are used. The redundant one steps in where the primary one, or a table it names, is not inside the
// file.
func (e *sparse) findDirectories() error {
	primary := e.addDirectory(e.h.directoryOffset)
	redundant := e.h.flags&flagRedundant != 0 && e.addDirectory(e.h.redundantOffset)
	switch {
	case primary || e.h.capacity == 0:
		return nil
	case redundant:
		e.warnings = append(e.warnings, "vmdk: the grain directory is not inside the file; the redundant one is used")
		return nil
	default:
		return image.Truncatedf("vmdk: the grain directory of %d bytes at sector %d reaches past the end of the file at %d", e.directorySize(),
			e.h.directoryOffset, e.f.Size())
	}
}

// hosted is what the table entries of a hosted sparse extent mean: numbers of sectors.
type hosted struct{ h *header }

func (hosted) table(entry []byte) (int64, error) {
	return int64(binary.LittleEndian.Uint32(entry)) * sectorSize, nil
}

func (e hosted) lookup(entry []byte) (image.Kind, int64, error) {
	switch n := binary.LittleEndian.Uint32(entry); {
	case n == 0:
		return image.Hole, -1, nil
	case n > 1:
		return image.Data, int64(n) * sectorSize, nil
	case e.h.flags&flagZeroGrain != 0:
		return image.Zero, -1, nil
	default:
		return 0, 0, image.Corruptf("vmdk: a grain table has an entry of 1, a grain of zeros, which the header's flags (%#x) do not allow", e.h.flags)
	}
}
