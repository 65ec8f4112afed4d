package engine

import (
	"bytes"
	"errors"
	"io"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// union is a source whose map says "data" wherever the source or the base has data: there the two may differ.
type union struct {
	image.Reader
	base     image.Reader
	baseSize int64
}

func newUnion(src, base image.Reader) union { return union{src, base, base.Info().VirtualSize} }

// NextExtent returns the run that begins at off.
func (u union) NextExtent(off int64) (image.Extent, error) {
	e, err := u.Reader.NextExtent(off)
	if err != nil || e.Kind == image.Data || off >= u.baseSize {
		return e, err
	}
	b, err := u.base.NextExtent(off)
	if err != nil {
		return e, fault.Wrap(err, "the backing file")
	}
	e.Len = min(e.Len, b.Len)
	e.Host, e.In = -1, nil
	if b.Kind == image.Data {
		e.Kind = image.Data
	}
	return e, nil
}

// compare leaves only those units marked that differ from the base, and notes those that must become zeros.
func (k *worker) compare(w *window) error {
	k.zeros = k.zeros[:0]
	n := min(k.span, k.size-w.off)
	if err := k.loadBase(w.off, n); err != nil {
		return err
	}
	for u := range k.units {
		from := int64(u) * k.unit
		if from >= n {
			break
		}
		to := min(from+k.unit, n)
		plain, base := k.plain[from:to], k.base[from:to]
		same, zero := bytes.Equal(plain, base), isZero(plain)
		k.units[u] = !same && !zero
		if !same && zero {
			k.zeros = appendRun(k.zeros, image.Run{Off: w.off + from, Len: k.unit})
		}
	}
	return nil
}

// loadBase reads n bytes of the base; behind its end there are zeros.
func (k *worker) loadBase(off, n int64) error {
	if k.base == nil {
		k.base = make([]byte, k.span)
	}
	got, err := k.opts.Base.ReadAt(k.base[:n], off)
	if err != nil && !errors.Is(err, io.EOF) {
		return fault.Wrap(err, "read the backing file at offset %d", off)
	}
	clear(k.base[got:])
	return nil
}

// appendRun appends r, joined to the run before where they touch.
func appendRun(runs []image.Run, r image.Run) []image.Run {
	if n := len(runs); n > 0 && runs[n-1].Off+runs[n-1].Len == r.Off {
		runs[n-1].Len += r.Len
		return runs
	}
	return append(runs, r)
}
