package engine

import (
	"context"
	"iter"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// feed hands windows to the workers and links each to the one before it.
type feed struct {
	windows               chan *window
	place, digest, commit chan struct{}
}

func newFeed() *feed {
	first := make(chan struct{})
	close(first)
	return &feed{windows: make(chan *window), place: first, digest: first, commit: first}
}

func (f *feed) send(ctx context.Context, w *window) error {
	w.place, w.placed = f.place, make(chan struct{})
	w.digest, w.hashed = f.digest, make(chan struct{})
	w.commit, w.committed = f.commit, make(chan struct{})
	f.place, f.digest, f.commit = w.placed, w.hashed, w.committed
	select {
	case f.windows <- w:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// extents walks the map of the source from off on and refuses a source that breaks the contract of NextExtent.
func (c *copier) extents(ctx context.Context, off int64) iter.Seq2[image.Extent, error] {
	return func(yield func(image.Extent, error) bool) {
		for off := off; off < c.size; {
			if err := ctx.Err(); err != nil {
				yield(image.Extent{}, err)
				return
			}
			e, err := c.src.NextExtent(off)
			if err == nil && (e.Off != off || e.Len < 1 || e.Len > c.size-off) {
				err = fault.New(fault.Internal, "source returned extent [%d,+%d) for offset %d of a disk of %d bytes", e.Off, e.Len, off, c.size)
			}
			if !yield(e, err) || err != nil {
				return
			}
			off += e.Len
		}
	}
}

// plan returns the runs of whole units that may hold data.
func (c *copier) plan(ctx context.Context) iter.Seq2[image.Run, error] {
	return func(yield func(image.Run, error) bool) {
		var run image.Run
		for e, err := range c.extents(ctx, 0) {
			if err != nil {
				yield(image.Run{}, err)
				return
			}
			if e.Kind != image.Data {
				continue
			}
			from, to := e.Off/c.unit*c.unit, (e.Off+e.Len+c.unit-1)/c.unit*c.unit
			if end := run.Off + run.Len; run.Len > 0 && from <= end {
				run.Len = max(end, to) - run.Off
				continue
			}
			if run.Len > 0 && !yield(run, nil) {
				return
			}
			run = image.Run{Off: from, Len: to - from}
		}
		if run.Len > 0 {
			yield(run, nil)
		}
	}
}

// dispatch cuts the source's data extents into windows.
func (c *copier) dispatch(ctx context.Context, f *feed) error {
	cut := cutter{c: c, f: f, past: c.start}
	for e, err := range c.extents(ctx, c.start) {
		if err != nil {
			return err
		}
		if e.Kind != image.Data {
			continue
		}
		if err := cut.add(ctx, e); err != nil {
			return err
		}
	}
	return cut.finish(ctx)
}

// cutter collects the pieces of extents that fall into one window.
type cutter struct {
	c    *copier
	f    *feed
	w    *window
	past int64 // end of the last window that was sent
}

func (u *cutter) add(ctx context.Context, e image.Extent) error {
	head, bulk, tail := u.c.bulk(e)
	if bulk.Len == 0 {
		return u.cut(ctx, e)
	}
	if err := u.cut(ctx, head); err != nil {
		return err
	}
	if err := u.flush(ctx); err != nil {
		return err
	}
	if err := u.send(ctx, &window{off: bulk.Off, bulk: bulk}, bulk.Off+bulk.Len); err != nil {
		return err
	}
	return u.cut(ctx, tail)
}

// send hands on a window that reaches to end. With bulk windows the one before may have reached further.
func (u *cutter) send(ctx context.Context, w *window, end int64) error {
	w.gap, w.done = max(0, w.off-u.past), max(0, end-u.past)
	u.past = max(u.past, end)
	return u.f.send(ctx, w)
}

// cut cuts an extent into windows.
func (u *cutter) cut(ctx context.Context, e image.Extent) error {
	for e.Len > 0 {
		start := e.Off / u.c.span * u.c.span
		if u.w == nil || u.w.off != start {
			if err := u.flush(ctx); err != nil {
				return err
			}
			u.w = &window{off: start}
		}
		piece := e
		piece.Len = min(e.Len, start+u.c.span-e.Off)
		u.w.runs = append(u.w.runs, piece)
		e.Off += piece.Len
		e.Len -= piece.Len
		if e.Host >= 0 {
			e.Host += piece.Len
		}
	}
	return nil
}

func (u *cutter) flush(ctx context.Context) error {
	if u.w == nil {
		return nil
	}
	w := u.w
	u.w = nil
	return u.send(ctx, w, min(w.off+u.c.span, u.c.size))
}

// finish sends what is left, and an empty window for the zeros at the end of the disk.
func (u *cutter) finish(ctx context.Context) error {
	if err := u.flush(ctx); err != nil || u.past >= u.c.size {
		return err
	}
	return u.f.send(ctx, &window{off: u.c.size, gap: u.c.size - u.past, done: u.c.size - u.past})
}
