package vmdk

import (
	"github.com/hyperplane-project/hyperplane/converters/image"
)

// front reads what precedes the grains: header, descriptor, and in one of the two layouts the grain directory and the grain tables.
func (s *stream) front() error {
	h := s.h
	s.audit = newAudit(h)
	if err := s.skip(1); err != nil {
		return err
	}
	if h.descriptorOffset == 0 || h.descriptorSize == 0 {
		s.info.Warnings = append(s.info.Warnings, "vmdk: the stream has no descriptor")
	} else if err := s.descriptor(); err != nil {
		return err
	}
	if s.tablesInFront() {
		if err := s.frontTables(); err != nil {
			return err
		}
	}
	if uint64(s.pos) > h.overhead {
		return image.Corruptf("vmdk: the metadata reaches to sector %d, the header says that grains begin at %d", s.pos, h.overhead)
	}
	return s.skip(h.overhead - uint64(s.pos))
}

// tablesInFront reports whether the grain directory comes before the grains. Otherwise it comes after them, behind a marker, wherever the header says it is.
func (s *stream) tablesInFront() bool { return s.h.directoryOffset < s.h.overhead }

func (s *stream) descriptor() error {
	h := s.h
	if h.descriptorSize > maxDescriptor/sectorSize {
		return image.Limitf("vmdk: an embedded descriptor of %d sectors exceeds %d bytes", h.descriptorSize, maxDescriptor)
	}
	if h.descriptorOffset >= h.overhead {
		return image.Corruptf("vmdk: the descriptor at sector %d is not before the grains at %d", h.descriptorOffset, h.overhead)
	}
	if err := s.skip(h.descriptorOffset - uint64(s.pos)); err != nil {
		return err
	}
	text := make([]byte, h.descriptorSize*sectorSize)
	if err := s.fill(text); err != nil {
		return err
	}
	d, err := parseEmbedded(text, true)
	if err != nil {
		return err
	}
	if d.differencing() {
		return image.Referencef("vmdk: the stream holds only the differences to its parent %q; other files are not opened for a stream", d.parentHint)
	}
	s.info.ContentID = d.cid
	return nil
}

// frontTables reads the grain directory and the tables it names, which follow it. The redundant copies, usually before it, are skipped.
func (s *stream) frontTables() error {
	h := s.h
	if h.directoryOffset < uint64(s.pos) {
		return image.Corruptf("vmdk: the grain directory at sector %d overlaps what is before it", h.directoryOffset)
	}
	if err := s.skip(h.directoryOffset - uint64(s.pos)); err != nil {
		return err
	}
	s.audit.directoryAt = s.pos
	if err := s.readDirectory(h.directoryEntries()); err != nil {
		return err
	}
	b := make([]byte, h.tableSize())
	for i, sector := range s.audit.directory {
		switch {
		case sector == 0:
			continue
		case int64(sector) < s.pos || uint64(sector) >= h.overhead:
			return image.Unsupportedf("vmdk: grain table %d at sector %d does not follow the grain directory in order; such a disk cannot be read as a stream",
				i, sector)
		}
		if err := s.skip(uint64(int64(sector) - s.pos)); err != nil {
			return err
		}
		if err := s.fill(b); err != nil {
			return err
		}
		if err := s.audit.table(int64(sector), b); err != nil {
			return err
		}
	}
	return nil
}
