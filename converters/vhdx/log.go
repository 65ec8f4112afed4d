package vhdx

import (
	"bytes"
	"encoding/binary"
	"errors"

	"github.com/hyperplane-project/hyperplane/converters/image"
)

const (
	// page is the unit of the log: entries consist of whole pages, and each change is one of a page of the file.
	page = 4096
	// maxLog bounds the log that is searched. Hyper-V and QEMU make 1 MiB.
	maxLog = 64 << 20
	// infoLog is how much of the log may be read for a description alone, so that opening reads at most image.MaxOpenBytes.
	infoLog = 640 << 10

	entrySignature = "loge"
	entryHeader    = 64
	descriptorSize = 32
	zeroDescriptor = "zero"
	dataDescriptor = "desc"
	dataSector     = "data"
)

// errLogBudget ends the search of a log of which too much would have to be read.
var errLogBudget = errors.New("vhdx: too much of the log would have to be read")

// journal is the log: a ring of entries of whole pages.
type journal struct {
	f      image.File
	at     int64
	size   int64
	id     guid  // of the entries that count
	budget int64 // how much may still be read
}

// entry is the header of a log entry ([MS-VHDX] 2.3.1.1).
type entry struct {
	at       int64 // in the log
	size     int64
	tail     int64 // where in the log the oldest entry is that was needed when this one was written
	sequence uint64
	// The file had at least flushed bytes on disk when the entry was written, and last bytes altogether.
	flushed, last uint64
	descriptors   int64
}

// active returns the entries to apply, oldest first: of all sequences of valid entries that hold their newest entry's tail the one whose newest entry has
// the highest number, from that tail on.
func (j *journal) active() ([]entry, error) {
	var best []entry
	for at := int64(0); at < j.size; {
		found, err := j.sequence(at)
		if err != nil {
			return nil, err
		}
		if len(found) == 0 {
			at += page
			continue
		}
		newest := found[len(found)-1]
		if best == nil || newest.sequence > best[len(best)-1].sequence {
			for i, e := range found {
				if e.at == newest.tail {
					best = found[i:]
					break
				}
			}
		}
		for _, e := range found {
			at += e.size
		}
	}
	return best, nil
}

// sequence returns the valid entries that follow each other from the one at the given place of the log on. It may go on at the log's beginning.
func (j *journal) sequence(at int64) ([]entry, error) {
	var found []entry
	for left := j.size; left > 0; {
		e, _, err := j.read(at)
		if err != nil {
			return nil, err
		}
		if e == nil || e.size > left || len(found) > 0 && e.sequence != found[len(found)-1].sequence+1 {
			break
		}
		found = append(found, *e)
		left -= e.size
		at = (at + e.size) % j.size
	}
	return found, nil
}

// read returns the entry at a place of the log and its bytes, or nil if there is no valid one. It reads on only as long as the pages look like those of
// an entry: so the search of the whole log reads each page a few times, not each entry from each page.
func (j *journal) read(at int64) (*entry, []byte, error) {
	b := make([]byte, entryHeader)
	if err := j.readAt(b, at); err != nil {
		return nil, nil, err
	}
	e := j.parse(b, at)
	if e == nil {
		return nil, nil, nil
	}
	b = make([]byte, 0, page)
	for int64(len(b)) < e.size {
		n := int64(len(b))
		b = append(b, make([]byte, page)...)
		if err := j.readAt(b[n:], (at+n)%j.size); err != nil {
			return nil, nil, err
		}
		if !e.plausible(b[n:], n) {
			return nil, nil, nil
		}
	}
	if !sound(b, entrySignature) || !e.complete(b) {
		return nil, nil, nil
	}
	return e, b, nil
}

func (j *journal) readAt(b []byte, at int64) error {
	if j.budget -= int64(len(b)); j.budget < 0 {
		return errLogBudget
	}
	return image.ReadFull(j.f, b, j.at+at, "vhdx log")
}

// parse decodes an entry's header; nil is none that can be right.
func (j *journal) parse(b []byte, at int64) *entry {
	le := binary.LittleEndian
	if !bytes.HasPrefix(b, []byte(entrySignature)) || guid(b[32:48]) != j.id {
		return nil
	}
	e := &entry{
		at: at, size: int64(le.Uint32(b[8:])), tail: int64(le.Uint32(b[12:])), sequence: le.Uint64(b[16:]), descriptors: int64(le.Uint32(b[24:])),
		flushed: le.Uint64(b[48:]), last: le.Uint64(b[56:]),
	}
	if e.size < page || e.size%page != 0 || e.size > j.size || e.tail%page != 0 || e.tail >= j.size || e.sequence == 0 || e.front() > e.size {
		return nil
	}
	return e
}

// front returns how many bytes the header and the descriptors take, in whole pages. The pages of data follow.
func (e *entry) front() int64 {
	return (entryHeader + e.descriptors*descriptorSize + page - 1) / page * page
}

// plausible reports whether the page at offset n of the entry begins like one.
func (e *entry) plausible(b []byte, n int64) bool {
	switch {
	case n == 0:
		return true
	case n < e.front():
		return bytes.HasPrefix(b, []byte(zeroDescriptor)) || bytes.HasPrefix(b, []byte(dataDescriptor))
	default:
		return bytes.HasPrefix(b, []byte(dataSector))
	}
}

// complete reports whether the entry has all descriptors and pages of data it should have, each written with the entry.
func (e *entry) complete(b []byte) bool {
	le := binary.LittleEndian
	data := b[e.front():]
	for i := range e.descriptors {
		d := b[entryHeader+i*descriptorSize:][:descriptorSize]
		if le.Uint64(d[24:]) != e.sequence {
			return false
		}
		switch string(d[:4]) {
		case zeroDescriptor:
		case dataDescriptor:
			if len(data) < page || le.Uint32(data[4:]) != uint32(e.sequence>>32) || le.Uint32(data[page-4:]) != uint32(e.sequence) {
				return false
			}
			data = data[page:]
		default:
			return false
		}
	}
	return true
}
