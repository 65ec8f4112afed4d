package converters

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"os"
	"time"

	"github.com/hyperplane-project/hyperplane/converters/internal/checkpoint"
	"github.com/hyperplane-project/hyperplane/converters/internal/engine"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// Checkpoint says where an interrupted copy keeps how far it came. The copy is taken up if the file exists: Out must then be the output of that
// copy, which Convert does not empty. The caller removes the file when the image is complete.
type Checkpoint struct {
	// Path is the checkpoint's file.
	Path string
	// Source identifies the source; a changed one is refused. FileIdentity makes it for a file.
	Source string
	// Now may be nil.
	Now func() time.Time
}

// ErrOtherCheckpoint says that a checkpoint is of another source or of other options.
var ErrOtherCheckpoint = checkpoint.ErrOther

// checkpointKey is what has to be the same for a copy to be taken up.
type checkpointKey struct {
	Source, Format, Variant, Compression, Name string
	Size, ClusterSize                          int64
	Level, Window                              int
	ContentID                                  [16]byte
	Hash                                       bool
	Backing                                    string
}

// describe makes the key of the copy.
func (c *conversion) describe(dst Target) {
	if c.opts.Checkpoint == nil {
		return
	}
	k := checkpointKey{
		Source: c.opts.Checkpoint.Source, Format: dst.Format, Variant: dst.Variant, Compression: dst.Compression, Name: dst.Name, Size: c.info.VirtualSize,
		ClusterSize: dst.ClusterSize, Level: dst.Level, Window: dst.Window, ContentID: dst.ContentID, Hash: c.hash != nil,
	}
	if dst.Backing != nil {
		k.Backing = dst.Backing.Format + ":" + dst.Backing.Name
	}
	c.key, _ = json.Marshal(k) // plain values cannot fail
}

// copyResumably copies with a checkpoint.
func (c *conversion) copyResumably(ctx context.Context, o engine.Options) (err error) {
	if c.src.Reader == nil {
		return fault.New(fault.InvalidArgument, "a source that can only be read front to back cannot be taken up; copy without a checkpoint")
	}
	j, err := checkpoint.Open(c.opts.Checkpoint.Path, c.key, c.out, c.opts.Checkpoint.Now)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, j.Flush()) // what was done before the failure need not be done again
		}
		err = errors.Join(err, j.Close())
	}()
	if j.Fresh() {
		if err := c.out.Truncate(0); err != nil { // an output without its checkpoint is of no use
			return fault.Wrap(err, "empty the output")
		}
	}
	o.Journal, o.Replay = j, c.noteResumed(j.Records())
	return c.copyOnce(ctx, o)
}

// noteResumed notes how far the records go.
func (c *conversion) noteResumed(records iter.Seq2[engine.Record, error]) iter.Seq2[engine.Record, error] {
	return func(yield func(engine.Record, error) bool) {
		for r, err := range records {
			if err == nil {
				c.resumed = r.End
			}
			if !yield(r, err) {
				return
			}
		}
	}
}

// identityBytes is how much of the beginning of a file goes into its identity.
const identityBytes = 64 << 10

// FileIdentity describes the file at path by its size, its time of change and its beginning.
func FileIdentity(path string) (id string, err error) {
	f, err := os.Open(path) //nolint:gosec // the path is the caller's choice
	if err != nil {
		return "", fault.Wrap(err, "identify the source")
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	st, err := f.Stat()
	if err != nil {
		return "", fault.Wrap(err, "identify the source")
	}
	h := sha256.New()
	if _, err := io.CopyN(h, f, identityBytes); err != nil && !errors.Is(err, io.EOF) {
		return "", fault.Wrap(err, "identify the source")
	}
	b, err := json.Marshal(struct {
		Size, Time int64
		Head       []byte
	}{st.Size(), st.ModTime().UnixNano(), h.Sum(nil)})
	return string(b), fault.Wrap(err, "identify the source")
}

// Sync makes the output's content last, if it is a file.
func (g *guard) Sync() error {
	if s, ok := g.Output.(checkpoint.Syncer); ok {
		return s.Sync()
	}
	return nil
}
