// Package engine copies the content of a disk into an image: in parallel, sparsely, and with an amount of memory that depends on the number
// of workers only. It knows no format: sources, writers and outputs are the interfaces of package image.
//
// The disk is cut into windows. A worker takes a window, reads or decodes it, looks for zeros and encodes; then it waits until the window
// before it has been placed, asks the writer where its own content goes, and lets the next window in; then it writes. Only placing is in
// order, so the output is the same whatever the number of workers, and no lock is held while bytes move.
package engine

import (
	"context"
	"hash"
	"iter"
	"runtime"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

const (
	// maxWindow is the size of a window with few workers; memoryBudget is what the buffers of all workers together may take.
	maxWindow    = 1 << 20
	minWindow    = 128 << 10
	memoryBudget = 12 << 20
	// maxWorkers bounds what is not counted there: the state of compressors, about a MiB each.
	maxWorkers = 12
	// buffersPerWorker is how many windows' worth of memory a worker has: plain, encoded, the source's compressed bytes.
	buffersPerWorker = 3
)

// Options says how to copy.
type Options struct {
	// Workers is the number of goroutines that move content, at most 12; 0 is what suits the number of processors.
	Workers int
	// Trust takes compressed content over without inflating it, where the formats allow.
	Trust bool
	// Forward says that the output takes bytes in their order only: content is then written in the disk's order. The writer's Forward was called.
	Forward bool
	// Base, if not nil, is the disk the new image is based on: only what differs from it is written. The writer must be an image.Zeroer.
	Base image.Reader
	// Journal, if not nil, is told what has been put into the output, so that a later copy of the same source with the same options can take
	// it up: Replay then yields the records. An appender must be an image.Restorer. Not for streams.
	Journal Journal
	Replay  iter.Seq2[Record, error]
	// Hash, if not nil, receives the whole content of the virtual disk in order.
	Hash hash.Hash
	// Counters, if not nil, are kept current while the copy runs.
	Counters *Counters
	// Check, if not nil, is called after each window; its error ends the copy.
	Check func() error
}

// Counters are a copy's progress in bytes. They only grow.
type Counters struct {
	// Virtual is how much of the virtual disk is done, Data how much of it was content.
	Virtual, Data atomic.Int64
	// Read is what was asked of the source.
	Read atomic.Int64
}

// window is the unit of work: what is known to be content in one piece of the virtual disk.
type window struct {
	off    int64          // a multiple of the window size
	runs   []image.Extent // what to read from a Reader, ascending
	bulk   image.Extent   // instead of runs: an extent of many windows, all of it to be cloned
	chunks []image.Chunk  // what came from a Stream, ascending
	done   int64          // how far the virtual disk gets done by this window
	gap    int64          // zeros between the window before and this one
	unhash bool           // the windows are not in order, the hash is void

	place, placed  chan struct{} // place is closed when this window may be placed; placed is the next window's place
	digest, hashed chan struct{} // the same for the hash

	commit, committed chan struct{} // the same for the journal
}

type copier struct {
	src      image.Reader      // nil when the source is a stream
	chunks   image.ChunkReader // src, if its compressed units fit the appender's
	placer   image.Placer      // exactly one of placer
	appender image.Appender    // and appender is set
	zeroer   image.Zeroer      // the writer, if it can hide a base's content
	out      image.Output
	clone    *cloner // nil if blocks cannot be cloned
	opts     Options
	count    *Counters
	size     int64 // of the virtual disk
	start    int64 // what lies before was copied by an earlier run
	allUnits bool  // units that hold zeros are placed too, for the writer has put their places into its metadata
	alloc    int64 // what the writer allocates at once
	unit     int64 // what is looked at and written at once: alloc, or less if a stream's chunks are smaller
	span     int64 // of a window
}

// Copy copies the content of src to w. It does not call w.Finish. out may be nil if w is an Appender. Blocks are cloned where out is an image.CloneOutput on
// the source's file system.
func Copy(ctx context.Context, src image.Reader, w image.Writer, out image.Output, opts Options) error {
	info := src.Info()
	c, err := newCopier(w, out, info.VirtualSize, opts)
	if err != nil {
		return err
	}
	c.src = src
	if opts.Base != nil {
		c.src = newUnion(src, opts.Base)
	}
	if r, ok := c.src.(image.ChunkReader); ok && c.appender != nil && info.ClusterSize == c.unit {
		c.chunks = r
	}
	if c.clone, err = newCloner(ctx, c); err != nil {
		return err
	}
	if p, ok := w.(image.Planner); ok {
		c.allUnits = opts.Forward && c.placer != nil
		if err := p.Plan(c.plan(ctx)); err != nil {
			return err
		}
	}
	if opts.Replay != nil {
		if err := c.replay(w); err != nil {
			return err
		}
	}
	return c.run(ctx, c.dispatch)
}

// CopyStream copies the content of src to w, as Copy does. It reports whether opts.Hash is valid: it is not if the content came out of order.
func CopyStream(ctx context.Context, src image.Stream, w image.Writer, out image.Output, opts Options) (hashed bool, err error) {
	info := src.Info()
	c, err := newCopier(w, out, info.VirtualSize, opts)
	if err != nil {
		return false, err
	}
	if _, ok := w.(image.Planner); ok && opts.Forward && c.placer != nil {
		return false, image.Unsupportedf("the source can only be read front to back and does not say where its content is, " +
			"so an image of this format cannot be written front to back; write a file, or raw or a streamOptimized vmdk")
	}
	unit := info.ClusterSize
	if unit <= 0 || unit&(unit-1) != 0 {
		return false, fault.New(fault.Internal, "stream has chunks of %d bytes, which is no power of two", unit)
	}
	if unit < c.alloc && c.appender != nil {
		return false, image.Unsupportedf("content that arrives in pieces of %d bytes cannot be joined to compressed units of %d bytes; choose a cluster size of %d",
			unit, c.alloc, unit)
	}
	c.unit = min(c.alloc, unit)
	c.span = max(c.span, unit)
	s := &streamCutter{c: c, src: src}
	err = c.run(ctx, s.dispatch)
	return !s.disorder, err
}

func newCopier(w image.Writer, out image.Output, size int64, opts Options) (*copier, error) {
	c := &copier{out: out, opts: opts, count: opts.Counters, size: size, alloc: w.Unit(), unit: w.Unit()}
	if c.count == nil {
		c.count = &Counters{}
	}
	if c.opts.Workers <= 0 {
		c.opts.Workers = defaultWorkers(w)
	}
	c.opts.Workers = min(c.opts.Workers, maxWorkers)
	c.span = maxWindow
	for c.span > minWindow && int64(c.opts.Workers)*c.span*buffersPerWorker > memoryBudget {
		c.span /= 2
	}
	c.span = max(c.span, c.alloc)
	switch w := w.(type) {
	case image.Placer:
		c.placer = w
		if r, ok := w.(image.Redirector); ok {
			c.out = r.Content()
		}
	case image.Appender:
		c.appender = w
	default:
		return nil, fault.New(fault.Internal, "writer %T is neither a placer nor an appender", w)
	}
	return c, c.check(w)
}

// check refuses options that the writer has no means for.
func (c *copier) check(w image.Writer) error {
	var ok bool
	if c.zeroer, ok = w.(image.Zeroer); !ok && c.opts.Base != nil {
		return image.Unsupportedf("an image of differences is not written in this format")
	}
	if _, ok := w.(image.Restorer); !ok && c.appender != nil && c.opts.Journal != nil {
		return image.Unsupportedf("writing an image of this format cannot be interrupted and taken up")
	}
	return nil
}

// defaultWorkers is more than there are processors, for workers wait for their turn and for the disk, unless that costs more than it gains.
func defaultWorkers(w image.Writer) int {
	procs := runtime.GOMAXPROCS(0)
	if c, ok := w.(image.Crowded); ok && c.Crowded() {
		return procs
	}
	return procs + min(procs, 8)
}

// run starts the workers and feeds them with what dispatch makes.
func (c *copier) run(ctx context.Context, dispatch func(context.Context, *feed) error) error {
	g, ctx := errgroup.WithContext(ctx)
	f := newFeed()
	g.Go(func() error {
		defer close(f.windows)
		return Protect(func() error { return dispatch(ctx, f) })
	})
	for range c.opts.Workers {
		g.Go(func() error {
			return Protect(func() error { return c.work(ctx, f.windows) })
		})
	}
	return g.Wait()
}
