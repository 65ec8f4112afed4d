package engine

import (
	"context"

	"github.com/hyperplane-project/hyperplane/converters/image"
)

// minBulk is the smallest piece that is worth a window of its own.
const minBulk = 128 << 10

// bulk splits an extent that is to be cloned into a head, a piece of whole units and a tail. Cloning a large piece at once costs no more than cloning
// a small one. Where the content must be looked at, for a digest or a base, there is no such piece.
func (c *copier) bulk(e image.Extent) (head, bulk, tail image.Extent) {
	if c.opts.Hash != nil || !c.clone.wants(e) {
		return e, image.Extent{}, image.Extent{}
	}
	align := c.alloc // a unit is written whole, by one window
	if c.opts.Journal != nil {
		align = c.span // a record ends where a window ends
	}
	from := (e.Off + align - 1) / align * align
	to := (e.Off + e.Len) / align * align
	if to-from < minBulk {
		return e, image.Extent{}, image.Extent{}
	}
	return slice(e, e.Off, from), slice(e, from, to), slice(e, to, e.Off+e.Len)
}

// slice returns the part [from, to) of an extent with a place in a file.
func slice(e image.Extent, from, to int64) image.Extent {
	e.Host += from - e.Off
	e.Off, e.Len = from, to-from
	return e
}

// copyBulk places and clones a piece of many windows.
func (k *worker) copyBulk(ctx context.Context, w *window) error {
	k.pieces, k.zeros, k.asked, k.spans = k.pieces[:0], k.zeros[:0], nil, k.spans[:0]
	if err := wait(ctx, w.place); err != nil {
		return err
	}
	if err := k.placeRun(w, 0, w.bulk.Len); err != nil {
		return err
	}
	close(w.placed)
	for _, s := range k.spans {
		from := w.bulk.Host + s.from
		if k.clone.to.Clone(localFile(w.bulk), from, s.host, s.to-s.from) == nil {
			continue
		}
		if err := k.copySpan(ctx, w, s); err != nil {
			return err
		}
	}
	k.count.Data.Add(w.bulk.Len)
	return nil
}

// copySpan reads and writes what could not be cloned after all.
func (k *worker) copySpan(ctx context.Context, w *window, s span) error {
	for from := s.from; from < s.to; from += k.span {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := min(k.span, s.to-from)
		if err := k.load(&window{off: w.off + from}, slice(w.bulk, w.off+from, w.off+from+n)); err != nil {
			return err
		}
		if err := k.writePlain(span{from: 0, to: n, host: s.host + from - s.from}, 0, n); err != nil {
			return err
		}
	}
	return nil
}
