package converters

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"iter"
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

// openCheckpoint opens the checkpoint of this copy.
func (c *conversion) openCheckpoint(dst Target) (err error) {
	if c.src.Reader == nil {
		return fault.New(fault.InvalidArgument, "a source that can only be read front to back cannot be taken up; copy without a checkpoint")
	}
	k := checkpointKey{
		Source: c.opts.Checkpoint.Source, Format: dst.Format, Variant: dst.Variant, Compression: dst.Compression, Name: dst.Name, Size: c.info.VirtualSize,
		ClusterSize: dst.ClusterSize, Level: dst.Level, Window: dst.Window, ContentID: dst.ContentID, Hash: c.hash != nil,
	}
	if dst.Backing != nil {
		k.Backing = dst.Backing.Format + ":" + dst.Backing.Name + ":" + dst.Backing.Identity
	}
	key, err := json.Marshal(k)
	if err != nil {
		return fault.As(fault.Internal, err, "checkpoint")
	}
	c.journal, err = checkpoint.Open(c.opts.Checkpoint.Path, key, c, c.opts.Checkpoint.Now)
	return err
}

// closeCheckpoint closes the checkpoint, if there is one, after a copy that ended with err. What was done before a failure need not be done again.
func (c *conversion) closeCheckpoint(err error) error {
	if c.journal == nil {
		return err
	}
	if err != nil {
		err = errors.Join(err, c.journal.Flush())
	}
	return errors.Join(err, c.journal.Close())
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

// FileIdentity describes the disk that o chooses in the file at path: by the file's size, time of change and beginning, and by what was chosen. Other
// files that an image names are not looked at.
func FileIdentity(path string, o OpenOptions) (id string, err error) {
	f, err := openLocal(path)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	st, err := f.OS().Stat()
	if err != nil {
		return "", fault.Wrap(err, "identify the source")
	}
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(f, 0, identityBytes)); err != nil {
		return "", fault.Wrap(err, "identify the source")
	}
	b, err := json.Marshal(struct {
		Size, Time                         int64
		Head                               []byte
		Format, Snapshot, Member, SizeRule string
	}{f.Size(), st.ModTime().UnixNano(), h.Sum(nil), o.Format, o.Snapshot, o.Member, string(o.SizeRule)})
	return string(b), fault.Wrap(err, "identify the source")
}

// Sync makes the content of all files of the image last. It implements checkpoint.Syncer.
func (c *conversion) Sync() error {
	for _, g := range append([]*guard{c.out}, c.siblings...) {
		if s, ok := g.Output.(checkpoint.Syncer); ok {
			if err := s.Sync(); err != nil {
				return err
			}
		}
	}
	return nil
}
