// Package checkpoint keeps the records of an unfinished copy in a file, so that the copy can be taken up after a kill or a power cut.
//
// The file is a magic, a key and records. Key and records each are: length (4 bytes, little-endian), CRC-32C of the body (4 bytes), body. A record's
// body is a list of unsigned varints. What follows the first damaged record is ignored: it was being written when the copy ended.
package checkpoint

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"iter"
	"os"
	"time"

	"github.com/hyperplane-project/hyperplane/converters/internal/engine"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

const (
	magic = "hyperplane checkpoint 1\n"
	// maxBody is the largest body: a window has few thousand units, each takes a few bytes.
	maxBody = 16 << 20
	frame   = 8
	// interval is how often records are made to last.
	interval = 5 * time.Second
)

// ErrOther says that the file belongs to a copy of another source or with other options.
var ErrOther = errors.New("checkpoint of another copy")

// Syncer is an output whose content can be made to last.
type Syncer interface{ Sync() error }

// Journal is an engine.Journal in a file.
type Journal struct {
	f     *os.File
	out   Syncer
	now   func() time.Time
	last  time.Time
	buf   []byte // records that are not yet in the file
	body  []byte
	saved int64 // where the records begin
	fresh bool
}

var _ engine.Journal = (*Journal)(nil)

// Open opens the checkpoint at path, or makes one. key describes source and options: a file with another key is refused with ErrOther. Before
// records are written out is synced. now may be nil.
func Open(path string, key []byte, out Syncer, now func() time.Time) (*Journal, error) {
	if now == nil {
		now = time.Now
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fault.Wrap(err, "open the checkpoint")
	}
	j := &Journal{f: f, out: out, now: now, last: now()}
	if err := j.begin(key); err != nil {
		return nil, errors.Join(fault.Wrap(err, "%s", path), f.Close())
	}
	return j, nil
}

// begin checks the key, or writes it into an empty file.
func (j *Journal) begin(key []byte) error {
	r := bufio.NewReader(j.f)
	head := make([]byte, len(magic))
	n, err := io.ReadFull(r, head)
	if n == 0 && errors.Is(err, io.EOF) {
		return j.create(key)
	}
	got, err := readBody(r)
	if string(head) != magic || err != nil {
		return fault.As(fault.FailedPrecondition, ErrOther, "the file is no checkpoint; remove it")
	}
	if !bytes.Equal(got, key) {
		return fault.As(fault.FailedPrecondition, ErrOther, "the checkpoint is of another source or of other options; remove it to begin anew")
	}
	j.saved = int64(len(magic)) + frame + int64(len(got))
	return nil
}

// Fresh reports whether the file was made by Open: there is nothing to take up.
func (j *Journal) Fresh() bool { return j.fresh }

func (j *Journal) create(key []byte) error {
	j.buf = append(j.buf, magic...)
	j.buf = appendFrame(j.buf, key)
	j.saved, j.fresh = int64(len(j.buf)), true
	return j.flush()
}

// Records yields what the file holds, except the newest record: its content is written again, for the output's last blocks are the least certain.
// Damaged records at the end are removed. It is called at most once, before Append.
func (j *Journal) Records() iter.Seq2[engine.Record, error] {
	return func(yield func(engine.Record, error) bool) {
		r := bufio.NewReaderSize(io.NewSectionReader(j.f, j.saved, 1<<62), 1<<20)
		good := j.saved
		var held *engine.Record
		var heldSize int64
		for {
			body, err := readBody(r)
			if err != nil {
				break
			}
			rec, ok := decode(body)
			if !ok {
				break
			}
			if held != nil {
				good += heldSize
				if !yield(*held, nil) {
					return
				}
			}
			held, heldSize = &rec, frame+int64(len(body))
		}
		if err := j.cut(good); err != nil {
			yield(engine.Record{}, err)
		}
	}
}

// cut removes what lies behind size.
func (j *Journal) cut(size int64) error {
	if err := j.f.Truncate(size); err != nil {
		return fault.Wrap(err, "cut the checkpoint")
	}
	_, err := j.f.Seek(size, io.SeekStart)
	return fault.Wrap(err, "cut the checkpoint")
}

// Append takes a record, and from time to time makes all that were taken last.
func (j *Journal) Append(r engine.Record) error {
	j.body = encode(j.body[:0], r)
	j.buf = appendFrame(j.buf, j.body)
	if now := j.now(); now.Sub(j.last) >= interval {
		j.last = now
		return j.Flush()
	}
	return nil
}

// Flush makes the output last, then the records: a record never says more than the output holds.
func (j *Journal) Flush() error {
	if err := j.out.Sync(); err != nil {
		return fault.Wrap(err, "sync the output")
	}
	return j.flush()
}

func (j *Journal) flush() error {
	if _, err := j.f.Write(j.buf); err != nil {
		return fault.Wrap(err, "write the checkpoint")
	}
	j.buf = j.buf[:0]
	return fault.Wrap(j.f.Sync(), "sync the checkpoint")
}

// Close closes the file. Records that were not flushed are lost.
func (j *Journal) Close() error { return j.f.Close() }

func appendFrame(dst, body []byte) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(body)))
	dst = binary.LittleEndian.AppendUint32(dst, crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)))
	return append(dst, body...)
}

var errTorn = errors.New("torn record")

func readBody(r io.Reader) ([]byte, error) {
	var head [frame]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := binary.LittleEndian.Uint32(head[:])
	if n > maxBody {
		return nil, errTorn
	}
	var body bytes.Buffer
	if _, err := io.CopyN(&body, r, int64(n)); err != nil {
		return nil, err
	}
	if crc32.Checksum(body.Bytes(), crc32.MakeTable(crc32.Castagnoli)) != binary.LittleEndian.Uint32(head[4:]) {
		return nil, errTorn
	}
	return body.Bytes(), nil
}
