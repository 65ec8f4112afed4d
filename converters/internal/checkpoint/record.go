package checkpoint

import (
	"encoding/binary"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/internal/engine"
)

// encode appends a record: its end, the three lists with their lengths, and the hash state.
func encode(dst []byte, r engine.Record) []byte {
	dst = binary.AppendUvarint(dst, uint64(r.End))
	dst = appendRuns(dst, r.Placed)
	dst = appendRuns(dst, r.Zeros)
	dst = binary.AppendUvarint(dst, uint64(len(r.Pieces)))
	for _, p := range r.Pieces {
		dst = binary.AppendUvarint(dst, uint64(p.Off))
		dst = binary.AppendUvarint(dst, uint64(p.Size))
	}
	dst = binary.AppendUvarint(dst, uint64(len(r.Hash)))
	return append(dst, r.Hash...)
}

func appendRuns(dst []byte, runs []image.Run) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(runs)))
	for _, run := range runs {
		dst = binary.AppendUvarint(dst, uint64(run.Off))
		dst = binary.AppendUvarint(dst, uint64(run.Len))
	}
	return dst
}

// decoder takes a body apart. After a mistake it returns zeros and ok is false.
type decoder struct {
	b  []byte
	ok bool
}

func decode(body []byte) (engine.Record, bool) {
	d := decoder{body, true}
	r := engine.Record{End: d.number(), Placed: d.runs(), Zeros: d.runs()}
	for range d.count() {
		r.Pieces = append(r.Pieces, engine.PieceRecord{Off: d.number(), Size: d.number()})
	}
	n := d.count()
	r.Hash = d.b[:n]
	return r, d.ok && n == len(d.b)
}

func (d *decoder) number() int64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 || v > 1<<62 {
		d.ok, d.b = false, nil
		return 0
	}
	d.b = d.b[n:]
	return int64(v)
}

// count reads the number of things that follow, each of which takes a byte or more.
func (d *decoder) count() int {
	n := d.number()
	if n > int64(len(d.b)) {
		d.ok = false
		return 0
	}
	return int(n)
}

func (d *decoder) runs() []image.Run {
	var runs []image.Run
	for range d.count() {
		runs = append(runs, image.Run{Off: d.number(), Len: d.number()})
	}
	return runs
}
