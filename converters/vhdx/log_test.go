package vhdx_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/image/imagetest"
)

const (
	logGUID = "11223344-5566-7788-99aa-bbccddeeff00"
	logSize = mib
	page    = 4 * kib
)

// change is a descriptor of a log entry: data that replace a page of the file, or a run of zeros.
type change struct {
	at   uint64
	data []byte // a page; nil is zeros
	n    uint64 // how many zeros
}

// logEntry is an entry of the log and its place there.
type logEntry struct {
	at, tail      uint32
	sequence      uint64
	flushed, last uint64
	changes       []change
	id            string
}

// bytes encodes the entry.
func (e logEntry) bytes() []byte {
	le := binary.LittleEndian
	b := make([]byte, (64+32*len(e.changes)+page-1)/page*page)
	copy(b, "loge")
	le.PutUint32(b[12:], e.tail)
	le.PutUint64(b[16:], e.sequence)
	le.PutUint32(b[24:], uint32(len(e.changes)))
	id := e.id
	if id == "" {
		id = logGUID
	}
	copy(b[32:], guid(id))
	le.PutUint64(b[48:], e.flushed)
	le.PutUint64(b[56:], e.last)
	for i, c := range e.changes {
		d := b[64+32*i:]
		le.PutUint64(d[16:], c.at)
		le.PutUint64(d[24:], e.sequence)
		if c.data == nil {
			copy(d, "zero")
			le.PutUint64(d[8:], c.n)
			continue
		}
		copy(d, "desc")
		copy(d[4:8], c.data[page-4:])
		copy(d[8:16], c.data[:8])
		sector := slices.Clone(c.data)
		copy(sector, "data")
		le.PutUint32(sector[4:], uint32(e.sequence>>32))
		le.PutUint32(sector[page-4:], uint32(e.sequence))
		b = append(b, sector...)
	}
	le.PutUint32(b[8:], uint32(len(b)))
	seal(b)
	return b
}

// withLog puts entries into the log and says in the headers that it counts.
func withLog(entries ...logEntry) func([]byte) []byte {
	return func(b []byte) []byte {
		for _, e := range entries {
			for i, x := range e.bytes() {
				b[logAt+(int(e.at)+i)%logSize] = x
			}
		}
		return inHeaders(func(h []byte) []byte { copy(h[48:], guid(logGUID)); return h })(b)
	}
}

// pageOf returns the page of b at the given offset.
func pageOf(b []byte, at int) []byte { return slices.Clone(b[at:][:page]) }

// TestReplay reads images whose log matters. The disk is good's, or empty, or of its third MiB only.
func TestReplay(t *testing.T) {
	t.Parallel()
	b := good(t)
	full, empty := content(t, mustOpen(t, b)), make([]byte, 3*mib+512*kib)
	third := slices.Clone(full)
	clear(third[:2*mib])
	bat := pageOf(b, batAt)
	batThird := put64(0, 0)(slices.Clone(bat))
	// Changes of the BAT, and a file whose own BAT is empty.
	whole, none, only := change{at: batAt, data: bat}, change{at: batAt, n: page}, change{at: batAt, data: batThird}
	emptied := func(b []byte) []byte { clear(b[batAt:][:page]); return b }
	torn := func(at int) func([]byte) []byte { return func(b []byte) []byte { b[logAt+at] ^= 1; return b } }
	for name, c := range map[string]struct {
		patch   func([]byte) []byte
		entries []logEntry
		want    []byte
	}{
		"data":             {emptied, []logEntry{{sequence: 1, changes: []change{whole}}}, full},
		"zeros":            {untouched, []logEntry{{sequence: 1, changes: []change{none}}}, empty},
		"nothing":          {untouched, []logEntry{{sequence: 1}}, full},
		"zeros, then data": {untouched, []logEntry{{sequence: 1, changes: []change{none}}, {at: page, sequence: 2, changes: []change{only}}}, third},
		"data, then zeros": {untouched, []logEntry{{sequence: 1, changes: []change{only}}, {at: 2 * page, sequence: 2, changes: []change{none}}}, empty},
		"data twice":       {emptied, []logEntry{{sequence: 1, changes: []change{whole, only}}}, third},
		"wrap between": {emptied, []logEntry{
			{at: logSize - 2*page, tail: logSize - 2*page, sequence: 7, changes: []change{whole}},
			{at: 0, tail: logSize - 2*page, sequence: 8, changes: []change{only}},
		}, third},
		"wrap inside": {emptied, []logEntry{{at: logSize - page, tail: logSize - page, sequence: 7, changes: []change{whole}}}, full},
		"tail behind the first": {emptied, []logEntry{
			{sequence: 1, changes: []change{{at: batAt, n: page}}},
			{at: page, tail: page, sequence: 2},
			{at: 2 * page, tail: page, sequence: 3},
		}, empty},
		"newest of two sequences": {untouched, []logEntry{
			{at: 0, sequence: 5, changes: []change{none}}, {at: 64 * kib, tail: 64 * kib, sequence: 9, changes: []change{only}},
		}, third},
		"gap in the numbers": {untouched, []logEntry{{sequence: 1, changes: []change{only}}, {at: 2 * page, sequence: 3, changes: []change{none}}}, third},
		"of an older log": {untouched, []logEntry{
			{sequence: 1, changes: []change{only}},
			{at: 2 * page, sequence: 2, changes: []change{none}, id: "99999999-5566-7788-99aa-bbccddeeff00"},
		}, third},
		"file grows":      {untouched, []logEntry{{sequence: 1, last: 9 * mib, changes: []change{only}}}, third},
		"129 descriptors": {emptied, []logEntry{{sequence: 1, changes: append(slices.Repeat([]change{none}, 128), whole)}}, full},
		"high number":     {emptied, []logEntry{{sequence: 1<<63 + 1, changes: []change{whole}}}, full},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := mustOpen(t, withLog(c.entries...)(c.patch(slices.Clone(b))))
			if got := content(t, r); !bytes.Equal(got, c.want) {
				t.Error("content differs")
			}
			if w := r.Info().Warnings; len(w) != 1 {
				t.Errorf("warnings are %q, want one of the log", w)
			}
			checkHosts(t, r)
		})
	}
	two := []logEntry{{sequence: 1, changes: []change{only}}, {at: 2 * page, sequence: 2, changes: []change{none}}}
	for name, at := range map[string]int{"checksum of the newest": 2*page + 4, "size of the newest": 2*page + 8, "descriptor of the newest": 2*page + 70} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := content(t, mustOpen(t, torn(at)(withLog(two...)(slices.Clone(b))))); !bytes.Equal(got, third) {
				t.Error("content is not that of the entry before the torn one")
			}
		})
	}
}

func mustOpen(t *testing.T, b []byte) image.Reader {
	t.Helper()
	r, err := openBytes(t, b, image.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// checkHosts compares what ReadAt reads with what the extents' files hold.
func checkHosts(t *testing.T, r image.Reader) {
	t.Helper()
	for off := int64(0); off < r.Info().VirtualSize; {
		e, err := r.NextExtent(off)
		if err != nil {
			t.Fatal(err)
		}
		off += e.Len
		if e.Kind != image.Data {
			continue
		}
		a, b := make([]byte, e.Len), make([]byte, e.Len)
		if _, err := r.ReadAt(a, e.Off); err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		if _, err := e.In.ReadAt(b, e.Host); err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		if !bytes.Equal(a, b) {
			t.Errorf("extent [%d,+%d) is not at offset %d of its file", e.Off, e.Len, e.Host)
		}
	}
}

// TestReplayContent changes content through the log, which is allowed, at pages in and around reads.
func TestReplayContent(t *testing.T) {
	t.Parallel()
	b := good(t)
	want := content(t, mustOpen(t, b))
	x := bytes.Repeat([]byte("x"), page)
	copy(want[2*page:], x)
	clear(want[5*page : 9*page])
	copy(want[7*page:], x)
	r := mustOpen(t, withLog(logEntry{sequence: 1, changes: []change{
		{at: block0 + 6*page, data: x}, // gone again
		{at: block0 + 5*page, n: 3 * page},
		{at: block0 + 6*page, n: 3 * page},
		{at: block0 + 2*page, data: x},
		{at: block0 + 7*page, data: x},
	}})(b))
	if !bytes.Equal(content(t, r), want) {
		t.Error("content differs")
	}
	for off := int64(0); off < 12*page; off += 1000 {
		for _, n := range []int64{1, 999, page, 3*page + 1} {
			p := make([]byte, n)
			if _, err := r.ReadAt(p, off); err != nil || !bytes.Equal(p, want[off:off+n]) {
				t.Errorf("reading %d bytes at %d: %v", n, off, err)
			}
		}
	}
	checkHosts(t, r)
}

func TestDamagedLog(t *testing.T) {
	t.Parallel()
	one := func(e logEntry) func([]byte) []byte {
		e.sequence = max(e.sequence, 1)
		return withLog(e)
	}
	changed := func(c ...change) func([]byte) []byte { return one(logEntry{changes: c}) }
	data := make([]byte, page)
	imagetest.Damages(t, harness(), good(t), map[string]imagetest.Damage{
		"empty":                 damage(withLog(), image.ErrCorrupt),
		"of another log":        damage(one(logEntry{id: "99999999-5566-7788-99aa-bbccddeeff00"}), image.ErrCorrupt),
		"wrong checksum":        damage(both(one(logEntry{}), putBytes(logAt+4, 1, 2, 3, 4)), image.ErrCorrupt),
		"number 0":              damage(withLog(logEntry{}), image.ErrCorrupt),
		"tail not in it":        damage(one(logEntry{tail: 64 * kib}), image.ErrCorrupt),
		"tail at no page":       damage(one(logEntry{tail: 100}), image.ErrCorrupt),
		"tail past the log":     damage(one(logEntry{tail: logSize}), image.ErrCorrupt),
		"data past the end":     damage(changed(change{at: 9 * mib, data: data}), image.ErrCorrupt),
		"data at 2^64-page":     damage(changed(change{at: 1<<64 - page, data: data}), image.ErrCorrupt),
		"data at no page":       damage(changed(change{at: batAt + 1, data: data}), image.ErrCorrupt),
		"zeros past the end":    damage(changed(change{at: batAt, n: 1 << 62}), image.ErrCorrupt),
		"zeros over the end":    damage(changed(change{at: batAt, n: 1<<64 - page}), image.ErrCorrupt),
		"zeros of no page":      damage(changed(change{at: batAt, n: 100}), image.ErrCorrupt),
		"no zeros":              damage(changed(change{at: batAt}), nil),
		"file was longer":       damage(one(logEntry{flushed: 9 * mib}), image.ErrTruncated),
		"file was 2^64-1":       damage(one(logEntry{flushed: 1<<64 - 1}), image.ErrTruncated),
		"file of 2^64-1":        damage(one(logEntry{last: 1<<64 - 1}), image.ErrLimit),
		"file of 1 PiB":         damage(one(logEntry{last: 1 << 50}), image.ErrLimit),
		"block where it grows":  damage(both(put64(batAt, at(8*mib, 6)), one(logEntry{last: 9 * mib})), nil),
		"block behind that":     damage(both(put64(batAt, at(9*mib, 6)), one(logEntry{last: 9 * mib})), image.ErrTruncated),
		"version 1":             damage(both(one(logEntry{}), inHeaders(put16(64, 1))), image.ErrUnsupported),
		"log of nothing":        damage(both(one(logEntry{}), inHeaders(put32(68, 0))), image.ErrCorrupt),
		"log of 65 MiB":         damage(both(one(logEntry{}), inHeaders(put32(68, 65*mib))), image.ErrLimit),
		"log past the end":      damage(both(one(logEntry{}), inHeaders(put64(72, 1<<40))), image.ErrTruncated),
		"metadata are overlaid": damage(changed(change{at: metadataAt, n: page}), image.ErrCorrupt),
		"regions are overlaid":  damage(changed(change{at: regions1, n: 128 * kib}), image.ErrCorrupt),
	})
	for name, patch := range map[string]func([]byte) []byte{
		"number of data":         put32(page+4, 9),
		"number at end of data":  put32(2*page-4, 9),
		"signature of data":      putBytes(page, 'D'),
		"signature of a change":  putBytes(64, 'D'),
		"number of a change":     put64(64+24, 9),
		"2^32-1 descriptors":     put32(24, 1<<32-1),
		"more changes than data": both(put32(24, 2), putBytes(96, []byte("desc")...), put64(96+24, 1)),
		"size 0":                 put32(8, 0),
		"size above the log's":   put32(8, 2*logSize),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := changed(change{at: batAt, data: data})(good(t))
			patch(b[logAt:])
			seal(b[logAt:][:2*page])
			if _, err := openBytes(t, b, image.OpenOptions{}); !errors.Is(err, image.ErrCorrupt) {
				t.Errorf("error is %v, want ErrCorrupt", err)
			}
		})
	}
}

// TestLongLog opens an image whose log is full: for its description alone little is read.
func TestLongLog(t *testing.T) {
	t.Parallel()
	var entries []logEntry
	for i := range uint64(logSize / page) {
		entries = append(entries, logEntry{at: uint32(i * page), sequence: i + 1, changes: []change{{at: batAt, n: page}}})
	}
	b := withLog(entries...)(good(t))
	m := &meter{ReaderAt: bytes.NewReader(b), size: int64(len(b))}
	r, err := openFile(t, m, image.OpenOptions{InfoOnly: true})
	if err != nil || len(r.Info().Warnings) != 1 || m.n > image.MaxOpenBytes {
		t.Errorf("opening reads %d bytes, %v; warnings are %q", m.n, err, r.Info().Warnings)
	}
	if r, err = openFile(t, m, image.OpenOptions{}); err != nil {
		t.Fatal(err)
	}
	if e, err := r.NextExtent(0); err != nil || e.Kind != image.Hole || e.Len != r.Info().VirtualSize {
		t.Errorf("extent is %+v, %v; want all of the disk", e, err)
	}
}
