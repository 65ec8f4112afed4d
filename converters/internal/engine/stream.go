package engine

import (
	"context"
	"errors"
	"io"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// streamCutter collects a stream's chunks into windows as long as they ascend.
type streamCutter struct {
	c        *copier
	src      image.Stream
	w        *window
	next     int64 // end of the last chunk of w
	past     int64 // end of the furthest window that was sent
	disorder bool  // a window came after one that lies behind it
}

// dispatch reads the stream to its end. What it does not hand on it releases.
func (s *streamCutter) dispatch(ctx context.Context, f *feed) error {
	defer func() { release(s.w) }()
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		chunk, err := s.src.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if err := s.check(chunk); err != nil {
			chunk.Release()
			return err
		}
		if err := s.add(ctx, f, chunk); err != nil {
			return err
		}
	}
	if err := s.flush(ctx, f); err != nil || s.past >= s.c.size {
		return err
	}
	rest := s.c.size - s.past
	return f.send(ctx, &window{off: s.c.size, gap: rest, done: rest, unhash: s.disorder})
}

// check refuses a stream that breaks its contract.
func (s *streamCutter) check(c image.Chunk) error {
	unit := s.src.Info().ClusterSize
	if c.Off < 0 || c.Off%unit != 0 || c.Len < 1 || int64(c.Len) > unit || c.Off > s.c.size-int64(c.Len) ||
		int64(c.Len) < unit && c.Off+int64(c.Len) != s.c.size {
		return fault.New(fault.Internal, "stream returned chunk [%d,+%d) of a disk of %d bytes in units of %d", c.Off, c.Len, s.c.size, unit)
	}
	return nil
}

func (s *streamCutter) add(ctx context.Context, f *feed, c image.Chunk) error {
	start := c.Off / s.c.span * s.c.span
	if s.w != nil && (s.w.off != start || c.Off < s.next) {
		if err := s.flush(ctx, f); err != nil {
			c.Release()
			return err
		}
	}
	if s.w == nil {
		s.w = &window{off: start}
	}
	s.w.chunks = append(s.w.chunks, c)
	s.next = c.Off + int64(c.Len)
	return nil
}

func (s *streamCutter) flush(ctx context.Context, f *feed) error {
	w := s.w
	if w == nil {
		return nil
	}
	end := min(w.off+s.c.span, s.c.size)
	if w.off < s.past {
		s.disorder = true
	}
	w.unhash = s.disorder
	w.gap, w.done = max(0, w.off-s.past), max(0, end-s.past)
	s.past = max(s.past, end)
	if err := f.send(ctx, w); err != nil {
		return err // dispatch releases the chunks
	}
	s.w = nil
	return nil
}

// release gives back the chunks of a window that was not worked on.
func release(w *window) {
	if w == nil {
		return
	}
	for _, c := range w.chunks {
		c.Release()
	}
	w.chunks = nil
}
