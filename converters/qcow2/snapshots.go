package qcow2

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"strings"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

const (
	maxSnapshots     = 65536
	maxSnapshotTable = 64 << 20
	maxSnapshotExtra = 1024
	// listedSnapshots is how many bytes of the table opening reads.
	listedSnapshots = 512 << 10

	snapshotHeader = 40
	snapshotExtra  = 16 // size of the VM's state, size of the disk
)

// snapshot is an entry of the snapshot table.
type snapshot struct {
	image.Snapshot
	l1Offset  uint64
	l1Entries uint32
	end       int64 // of the entry, from the start of the table
}

// readSnapshots reads the snapshot table up to limit bytes. more says that it goes on behind them.
func (h *header) readSnapshots(f image.File, limit int64) iter.Seq2[snapshot, error] {
	return func(yield func(snapshot, error) bool) {
		if h.snapshots == 0 {
			return
		}
		if err := h.checkSnapshots(f.Size()); err != nil {
			yield(snapshot{}, err)
			return
		}
		section := io.NewSectionReader(f, int64(h.snapshotsAt), limit)
		t := &snapshotTable{h: h, r: bufio.NewReaderSize(section, 16<<10)}
		for i := range h.snapshots {
			s, err := t.next()
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				if f.Size()-int64(h.snapshotsAt) > limit {
					return
				}
				err = image.Truncatedf("qcow2: entry %d of the snapshot table at offset %d reaches past the end of the file at %d", i, h.snapshotsAt, f.Size())
			}
			if !yield(s, err) || err != nil {
				return
			}
		}
	}
}

// checkSnapshots refuses a snapshot table that no image can have.
func (h *header) checkSnapshots(file int64) error {
	switch {
	case h.snapshots > maxSnapshots:
		return image.Limitf("qcow2: %d internal snapshots, more than %d", h.snapshots, maxSnapshots)
	case h.snapshotsAt == 0 || h.snapshotsAt%uint64(h.cluster()) != 0 || h.snapshotsAt > math.MaxInt64-maxSnapshotTable:
		return image.Corruptf("qcow2: snapshot table offset %#x at offset 64 is not at a cluster", h.snapshotsAt)
	case int64(h.snapshotsAt) > file:
		return image.Truncatedf("qcow2: snapshot table at offset %d is past the end of the file at %d", h.snapshotsAt, file)
	}
	return nil
}

// snapshotTable reads entries of the table, which have no fixed length.
type snapshotTable struct {
	h   *header
	r   *bufio.Reader
	pos int64
}

func (t *snapshotTable) take(n int) ([]byte, error) {
	b := make([]byte, n)
	got, err := io.ReadFull(t.r, b)
	t.pos += int64(got)
	return b, err
}

func (t *snapshotTable) next() (snapshot, error) {
	be := binary.BigEndian
	b, err := t.take(snapshotHeader)
	if err != nil {
		return snapshot{}, err
	}
	s := snapshot{l1Offset: be.Uint64(b), l1Entries: be.Uint32(b[8:])}
	s.Time, s.Size = int64(be.Uint32(b[16:])), int64(t.h.size)
	idSize, nameSize, extraSize := int(be.Uint16(b[12:])), int(be.Uint16(b[14:])), be.Uint32(b[36:])
	if extraSize > maxSnapshotExtra {
		return snapshot{}, image.Limitf("qcow2: a snapshot has %d bytes of extra data, more than %d", extraSize, maxSnapshotExtra)
	}
	b, err = t.take(int(extraSize) + idSize + nameSize)
	if err != nil {
		return snapshot{}, err
	}
	if extraSize >= snapshotExtra {
		size := be.Uint64(b[8:])
		if size > math.MaxInt64 {
			return snapshot{}, image.Limitf("qcow2: virtual size %d of a snapshot exceeds %d", size, int64(math.MaxInt64))
		}
		s.Size = int64(size)
	}
	b = b[extraSize:]
	s.ID, s.Name = string(b[:idSize]), string(b[idSize:])
	s.end = t.pos
	if pad := int(-t.pos & 7); pad > 0 { // the last entry's padding may be missing
		n, err := t.r.Discard(pad)
		t.pos += int64(n)
		if err != nil && !errors.Is(err, io.EOF) {
			return snapshot{}, err
		}
	}
	return s, nil
}

// chooseState lists the internal snapshots and makes the reader read the one that is wanted, by its id or else its name.
func (r *reader) chooseState(want string) error {
	var byID, byName *snapshot
	for s, err := range r.file.readSnapshots(r.f, listedSnapshots) {
		if err != nil {
			return err
		}
		r.info.Snapshots = append(r.info.Snapshots, s.Snapshot)
		if byID == nil && s.ID == want {
			byID = &s
		}
		if byName == nil && s.Name == want {
			byName = &s
		}
	}
	if n := len(r.info.Snapshots); n < int(r.file.snapshots) {
		r.info.Warnings = append(r.info.Warnings, fmt.Sprintf("qcow2: of %d internal snapshots only the first %d are listed", r.file.snapshots, n))
	}
	switch {
	case want == "" && r.file.snapshots > 0:
		r.info.Warnings = append(r.info.Warnings, fmt.Sprintf("qcow2: there are %d internal snapshots; only the current state is read", r.file.snapshots))
		return nil
	case want == "":
		return nil
	case byID != nil:
		return r.useSnapshot(byID)
	case byName != nil:
		return r.useSnapshot(byName)
	default:
		return fault.New(fault.NotFound, "qcow2: there is no snapshot %q%s", want, nameSnapshots(r.info.Snapshots))
	}
}

// useSnapshot makes the reader read a snapshot. What lies behind the disk's end at that time belongs to the VM's state.
func (r *reader) useSnapshot(s *snapshot) error {
	h := *r.file
	h.size, h.l1Offset, h.l1Entries = uint64(s.Size), s.l1Offset, s.l1Entries
	r.h = &h
	return fault.Wrap(h.checkSize(), "snapshot %q", s.Name)
}

// namedSnapshots is how many snapshots an error names.
const namedSnapshots = 20

func nameSnapshots(list []image.Snapshot) string {
	if len(list) == 0 {
		return ": the image has no internal snapshots"
	}
	var b strings.Builder
	b.WriteString("; there is ")
	for i, s := range list[:min(len(list), namedSnapshots)] {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%q (id %s)", s.Name, s.ID)
	}
	if more := len(list) - namedSnapshots; more > 0 {
		fmt.Fprintf(&b, " and %d more", more)
	}
	return b.String()
}
