package engine

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// worker is the state of one goroutine: its buffers live as long as the copy.
type worker struct {
	*copier
	plain   []byte         // the window's content
	units   []bool         // which units of the window hold something else than zeros
	spans   []span         // where the content goes
	clones  []image.Extent // runs to be cloned instead of written
	encoded []byte         // the stored form of the units, one after the other
	pieces  []piece        // where in encoded each unit is
	enc     image.Encoder  // nil for a placer

	base      []byte      // the base's content of the window, if there is a base
	zeros     []image.Run // units that differ from the base in being zeros
	asked     []image.Run // what the placer was asked for, for the journal
	hashState []byte      // the hash behind the window, for the journal
}

// span is a run of content in a window and its place in the file.
type span struct {
	from, to int64 // in the window
	host     int64
}

// piece is an encoded unit.
type piece struct {
	off      int64 // in the virtual disk
	from, to int   // in worker.encoded
}

func (c *copier) work(ctx context.Context, windows <-chan *window) error {
	k := &worker{copier: c, plain: make([]byte, c.span), units: make([]bool, c.span/c.unit)}
	if c.appender != nil {
		enc, err := c.appender.NewEncoder()
		if err != nil {
			return err
		}
		k.enc = enc
	}
	for w := range windows {
		if err := k.one(ctx, w); err != nil {
			return err
		}
	}
	return nil
}

// one does all the work on a window.
func (k *worker) one(ctx context.Context, w *window) error {
	defer release(w)
	if err := ctx.Err(); err != nil {
		return err
	}
	if w.bulk.Len > 0 {
		if err := k.copyBulk(ctx, w); err != nil {
			return err
		}
		return k.finish(ctx, w)
	}
	if err := k.fill(w); err != nil {
		return err
	}
	if k.opts.Base != nil {
		if err := k.compare(w); err != nil {
			return err
		}
	}
	if err := k.encode(w); err != nil {
		return err
	}
	if err := wait(ctx, w.place); err != nil {
		return err
	}
	if err := k.place(w); err != nil {
		return err
	}
	if !k.opts.Forward {
		close(w.placed)
	}
	if err := k.write(w); err != nil {
		return err
	}
	if k.opts.Forward {
		close(w.placed)
	}
	if k.opts.Hash != nil && !w.unhash {
		if err := k.hash(ctx, w); err != nil {
			return err
		}
	}
	return k.finish(ctx, w)
}

// finish notes that the window is done.
func (k *worker) finish(ctx context.Context, w *window) error {
	if k.opts.Journal != nil {
		if err := k.commit(ctx, w); err != nil {
			return err
		}
	}
	k.count.Virtual.Add(w.done)
	if k.opts.Check != nil {
		return k.opts.Check()
	}
	return nil
}

// wait waits for a window's turn.
func wait(ctx context.Context, turn <-chan struct{}) error {
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// fill reads the window's content and marks the units that hold something else than zeros.
func (k *worker) fill(w *window) error {
	clear(k.units)
	k.clones, k.encoded, k.pieces = k.clones[:0], k.encoded[:0], k.pieces[:0]
	pos := int64(0)
	for _, e := range w.runs {
		from := e.Off - w.off
		clear(k.plain[pos:from])
		pos = from + e.Len
		if err := k.read(w, e); err != nil {
			return err
		}
	}
	for len(w.chunks) > 0 {
		c := w.chunks[0]
		from := c.Off - w.off
		clear(k.plain[pos:from])
		pos = from + int64(c.Len)
		err := k.take(w, c)
		w.chunks = w.chunks[1:]
		c.Release()
		if err != nil {
			return err
		}
	}
	clear(k.plain[pos:])
	return nil
}

// read gets one run of the source.
func (k *worker) read(w *window, e image.Extent) error {
	if k.chunks != nil && e.Compressed {
		return k.chunks.ReadChunks(e.Off, e.Len, func(c image.Chunk) error { return k.take(w, c) })
	}
	from, to := e.Off-w.off, e.Off-w.off+e.Len
	k.count.Data.Add(e.Len)
	if k.clone.wants(e) {
		k.clones = append(k.clones, e)
		k.markAll(from, to)
		if k.opts.Hash == nil {
			return nil
		}
		return k.load(w, e)
	}
	if err := k.load(w, e); err != nil {
		return err
	}
	if k.allUnits {
		k.markAll(from, to)
		return nil
	}
	k.mark(from, to)
	return nil
}

// markAll notes that the units of [from, to) are placed whatever they hold.
func (k *worker) markAll(from, to int64) {
	for u := from / k.unit; u*k.unit < to; u++ {
		k.units[u] = true
	}
}

// load reads a run into the window's buffer. A source that has less than its own map says is truncated.
func (k *worker) load(w *window, e image.Extent) error {
	p := k.plain[e.Off-w.off:][:e.Len]
	n, err := k.src.ReadAt(p, e.Off)
	k.count.Read.Add(int64(n))
	if n == len(p) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		return image.Truncatedf("the source ends at offset %d, inside the disk", e.Off+int64(n))
	}
	return fault.Wrap(err, "read the source at offset %d", e.Off+int64(n))
}

// mark notes which units of [from, to) hold something else than zeros there.
func (k *worker) mark(from, to int64) {
	for from < to {
		u := from / k.unit
		end := min(to, (u+1)*k.unit)
		if !isZero(k.plain[from:end]) {
			k.units[u] = true
		}
		from = end
	}
}

// isZero reports whether p is all zeros: its first byte is zero and each byte equals the one before it.
func isZero(p []byte) bool {
	return len(p) == 0 || p[0] == 0 && bytes.Equal(p[1:], p[:len(p)-1])
}

// take decodes a chunk, or takes its deflate stream over if the writer can use it as it is.
func (k *worker) take(w *window, c image.Chunk) error {
	k.count.Data.Add(int64(c.Len))
	from := c.Off - w.off
	plain := k.plain[from:][:c.Len]
	whole := k.enc != nil && k.opts.Base == nil && (c.Deflate != nil || c.Zstd != nil) && int64(c.Len) == k.unit
	if whole && k.opts.Trust && k.opts.Hash == nil && k.wrap(c, nil) {
		return nil
	}
	if err := c.Decode(plain); err != nil {
		return err
	}
	if whole && (isZero(plain) || k.wrap(c, plain)) {
		return nil
	}
	k.mark(from, from+int64(c.Len))
	return nil
}

// wrap makes a unit's stored form of its deflate stream, if the writer can.
func (k *worker) wrap(c image.Chunk, plain []byte) bool {
	start := len(k.encoded)
	encoded, ok := k.enc.Wrap(k.encoded, c, plain)
	if ok {
		k.encoded = encoded
		k.pieces = append(k.pieces, piece{c.Off, start, len(encoded)})
	}
	return ok
}

// encode makes the stored form of the window's other units; a placer's content is stored as it is.
func (k *worker) encode(w *window) error {
	if k.enc == nil {
		return nil
	}
	taken := len(k.pieces)
	for u, data := range k.units {
		if !data {
			continue
		}
		from := int64(u) * k.unit
		start := len(k.encoded)
		var err error
		if k.encoded, err = k.enc.Encode(k.encoded, k.plain[from:from+k.unit]); err != nil {
			return fault.Wrap(err, "encode the content at offset %d", w.off+from)
		}
		k.pieces = append(k.pieces, piece{w.off + from, start, len(k.encoded)})
	}
	if taken > 0 && taken < len(k.pieces) {
		slices.SortFunc(k.pieces, func(a, b piece) int { return int((a.off - b.off) / k.unit) })
	}
	return nil
}
