package vhdx

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

const (
	mib = 1 << 20

	identifier      = "vhdxfile"
	header1At       = 64 << 10
	header2At       = 128 << 10
	headerSize      = 4096
	headerSignature = "head"
	// checksumAt is where headers, region tables and log entries have their checksum.
	checksumAt = 4
	// maxFile bounds the offsets that a file states, so that sums of them do not overflow.
	maxFile = 1 << 62
)

// header is what reading needs of a header.
type header struct {
	sequence   uint64
	dataWrite  guid
	log        guid // zero if the log is empty
	logVersion uint16
	version    uint16
	logSize    int64
	logAt      int64
}

// headers are the two headers of a file, nil where the checksum is wrong.
type headers [2]*header

// checkIdentifier returns image.ErrWrongFormat for a file that does not begin as VHDX does.
func checkIdentifier(f image.File) error {
	b := make([]byte, len(identifier))
	n, err := f.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return fault.Wrap(err, "vhdx: read the identifier")
	}
	if string(b[:n]) != identifier {
		return image.ErrWrongFormat
	}
	return nil
}

func readHeaders(f image.File) (both headers, err error) {
	for i, at := range []int64{header1At, header2At} {
		b := make([]byte, headerSize)
		if err := image.ReadFull(f, b, at, "vhdx header"); err != nil {
			return headers{}, err
		}
		if !sound(b, headerSignature) {
			continue
		}
		if both[i], err = parseHeader(b); err != nil {
			return headers{}, err
		}
	}
	return both, nil
}

func parseHeader(b []byte) (*header, error) {
	le := binary.LittleEndian
	logAt := le.Uint64(b[72:])
	if logAt > maxFile {
		return nil, image.Corruptf("vhdx: a header says that the log is at offset %d", logAt)
	}
	return &header{
		sequence: le.Uint64(b[8:]), dataWrite: guid(b[32:48]), log: guid(b[48:64]), logVersion: le.Uint16(b[64:]), version: le.Uint16(b[66:]),
		logSize: int64(le.Uint32(b[68:])), logAt: int64(logAt),
	}, nil
}

// current returns the header that counts: the one with the higher sequence number, or the only one whose checksum is right.
func (both headers) current() (*header, []string, error) {
	first, second := both[0], both[1]
	switch {
	case first == nil && second == nil:
		return nil, nil, image.Corruptf("vhdx: neither header, at offsets %d and %d, has a right checksum", header1At, header2At)
	case first == nil || second == nil:
		only := first
		if only == nil {
			only = second
		}
		return only, []string{"vhdx: one of the two headers is damaged; the other is used"}, only.check()
	case first.sequence == second.sequence && *first != *second:
		return nil, nil, image.Corruptf("vhdx: the two headers have the same sequence number %d and differ", first.sequence)
	case second.sequence > first.sequence:
		first = second
	}
	return first, nil, first.check()
}

// check refuses versions that are not known, and a log that is not where a log can be.
func (h *header) check() error {
	switch {
	case h.version != 1:
		return image.Unsupportedf("vhdx: format version %d; only 1 is known", h.version)
	case h.dirty() && h.logVersion != 0:
		return image.Unsupportedf("vhdx: the log's version is %d; only 0 is known", h.logVersion)
	case h.logSize%mib != 0 || h.logAt%mib != 0 || h.logSize > 0 && h.logAt < mib || h.dirty() && h.logSize == 0:
		return image.Corruptf("vhdx: a log of %d bytes at offset %d does not lie in whole MiB behind the first", h.logSize, h.logAt)
	}
	return nil
}

// dirty reports whether the log holds changes.
func (h *header) dirty() bool { return h.log != guid{} }

// sound reports whether a structure begins with its signature and has a right checksum.
func sound(b []byte, signature string) bool {
	return bytes.HasPrefix(b, []byte(signature)) && binary.LittleEndian.Uint32(b[checksumAt:]) == checksum(b)
}

// checksum is the CRC-32C of a structure, with zeros in the place of the checksum.
func checksum(b []byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli)
	sum := crc32.Update(0, table, b[:checksumAt])
	sum = crc32.Update(sum, table, make([]byte, 4))
	return crc32.Update(sum, table, b[checksumAt+4:])
}

// seal enters the checksum into a structure.
func seal(b []byte) []byte {
	binary.LittleEndian.PutUint32(b[checksumAt:], checksum(b))
	return b
}
