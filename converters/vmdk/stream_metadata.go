package vmdk

import (
	"encoding/binary"
	"io"

	"github.com/hyperplane-project/hyperplane/converters/image"
)

// metadata reads what follows a metadata marker.
func (s *stream) metadata(m marker) error {
	switch m.kind {
	case markerTable:
		return s.table(m)
	case markerDirectory:
		return s.directory(m)
	case markerFooter:
		return s.readFooter(m)
	case markerProgress:
		return s.skip(m.value)
	case markerEnd:
		return s.end(m)
	default:
		return image.Corruptf("vmdk: there is no record of kind %d (offset %d of the stream)", m.kind, (s.pos-1)*sectorSize)
	}
}

func (s *stream) table(m marker) error {
	if want := uint64(s.h.tableSize() / sectorSize); m.value != want {
		return image.Corruptf("vmdk: the grain table at offset %d of the stream has %d sectors, not %d", s.pos*sectorSize, m.value, want)
	}
	at := s.pos
	b := make([]byte, s.h.tableSize())
	if err := s.fill(b); err != nil {
		return err
	}
	return s.audit.table(at, b)
}

func (s *stream) directory(m marker) error {
	entries := s.h.directoryEntries()
	if want := uint64((entries*4 + sectorSize - 1) / sectorSize); m.value < want {
		return image.Corruptf("vmdk: the grain directory at offset %d of the stream has %d sectors, not %d", s.pos*sectorSize, m.value, want)
	}
	at := s.pos
	if err := s.readDirectory(entries); err != nil {
		return err
	}
	s.audit.directoryAt = at
	return s.skip(m.value - uint64(s.pos-at))
}

// readDirectory reads the grain directory, a sector at a time: its size is a claim of the header.
func (s *stream) readDirectory(entries int64) error {
	s.audit.directory = s.audit.directory[:0]
	var sector [sectorSize]byte
	for entries > 0 {
		if err := s.fill(sector[:]); err != nil {
			return err
		}
		for b := sector[:]; len(b) > 0 && entries > 0; b = b[4:] {
			s.audit.directory = append(s.audit.directory, binary.LittleEndian.Uint32(b))
			entries--
		}
	}
	return nil
}

func (s *stream) readFooter(m marker) error {
	if m.value != 1 {
		return image.Corruptf("vmdk: the footer at offset %d of the stream has %d sectors, not 1", s.pos*sectorSize, m.value)
	}
	var sector [sectorSize]byte
	if err := s.fill(sector[:]); err != nil {
		return err
	}
	footer, err := parseFooter(sector[:], s.h)
	s.footer = footer
	return err
}

// end verifies the whole stream at its end marker.
func (s *stream) end(m marker) error {
	if m.value != 0 {
		return image.Corruptf("vmdk: the end marker at offset %d of the stream claims %d sectors", (s.pos-1)*sectorSize, m.value)
	}
	said := s.h.directoryOffset
	if s.footer != nil {
		said = s.footer.directoryOffset
	}
	switch {
	case said == gdAtEnd:
		return image.Corruptf("vmdk: the stream has no footer before its end marker at offset %d", (s.pos-1)*sectorSize)
	case said != uint64(s.audit.directoryAt):
		return image.Corruptf("vmdk: the grain directory should be at sector %d, it was at %d", said, s.audit.directoryAt)
	}
	if err := s.audit.finish(); err != nil {
		return err
	}
	return io.EOF
}
