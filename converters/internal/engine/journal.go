package engine

import (
	"context"
	"encoding"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// Record is what one window has put into the output. From the records of an interrupted copy the next one learns what it need not do again.
type Record struct {
	// End is how far the disk is done, in bytes.
	End int64
	// Placed are the runs a Placer was asked to place, Pieces what an Appender has appended, in order; Zeros is what was made to read as zeros.
	Placed, Zeros []image.Run
	Pieces        []PieceRecord
	// Hash is the state of the hash at End; empty without one.
	Hash []byte
}

// PieceRecord is the unit at Off stored in Size bytes.
type PieceRecord struct{ Off, Size int64 }

// Journal takes the records of a copy, in the order of the disk. It is used by one goroutine at a time. A record is valid during the call only.
type Journal interface {
	Append(r Record) error
}

// commit writes the window's record when all windows before it have theirs.
func (k *worker) commit(ctx context.Context, w *window) error {
	if err := wait(ctx, w.commit); err != nil {
		return err
	}
	r := Record{End: min(w.off+max(k.span, w.bulk.Len), k.size), Placed: k.asked, Zeros: k.zeros, Hash: k.hashState}
	for _, p := range k.pieces {
		r.Pieces = append(r.Pieces, PieceRecord{p.off, int64(p.to - p.from)})
	}
	if err := k.opts.Journal.Append(r); err != nil {
		return fault.Wrap(err, "write the checkpoint")
	}
	close(w.committed)
	return nil
}

// replay brings the writer, the hash and the counters to where the records end.
func (c *copier) replay(w image.Writer) error {
	var last Record
	for r, err := range c.opts.Replay {
		if err != nil {
			return fault.Wrap(err, "read the checkpoint")
		}
		if err := c.replayRecord(w, r); err != nil {
			return err
		}
		last = r
	}
	c.start = last.End
	c.count.Virtual.Add(c.start)
	for c.start < c.size && c.start%c.span != 0 {
		c.span /= 2 // the copy before had smaller windows
	}
	if c.span < c.alloc {
		return fault.New(fault.FailedPrecondition, "the checkpoint ends at offset %d, which is inside a unit", c.start)
	}
	if c.opts.Hash == nil || c.start == 0 {
		return nil
	}
	state, ok := c.opts.Hash.(encoding.BinaryUnmarshaler)
	if !ok {
		return fault.New(fault.Internal, "the hash cannot be taken up")
	}
	return fault.Wrap(state.UnmarshalBinary(last.Hash), "the checkpoint's hash")
}

// replayRecord repeats what place did for a window, in the same order: the writer allocates in the order in which it is asked.
func (c *copier) replayRecord(w image.Writer, r Record) error {
	for _, run := range r.Zeros {
		if err := c.zeroer.PlaceZeros(run.Off, run.Len); err != nil {
			return err
		}
	}
	for _, run := range r.Placed {
		c.count.Data.Add(run.Len)
		for run.Len > 0 {
			_, n, err := c.placer.Place(run.Off, run.Len)
			if err != nil {
				return err
			}
			run.Off, run.Len = run.Off+n, run.Len-n
		}
	}
	for _, p := range r.Pieces {
		c.count.Data.Add(c.unit)
		if err := w.(image.Restorer).Restore(p.Off, int(p.Size)); err != nil { //nolint:forcetypeassert // newCopier has looked
			return err
		}
	}
	return nil
}

// saveHash notes the state of the hash behind the window.
func (k *worker) saveHash() error {
	if k.opts.Journal == nil {
		return nil
	}
	state, ok := k.opts.Hash.(encoding.BinaryMarshaler)
	if !ok {
		return fault.New(fault.Internal, "the hash cannot be saved")
	}
	var err error
	k.hashState, err = state.MarshalBinary()
	return fault.Wrap(err, "save the hash")
}
