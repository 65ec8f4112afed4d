package converters

import (
	"context"
	"crypto/sha256"
	"hash"
	"io"
	"strings"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/internal/checkpoint"
	"github.com/hyperplane-project/hyperplane/converters/internal/engine"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// Source is what is copied: exactly one field is set. The caller closes it. A read that blocks, on a network say, is the caller's to end when the context does.
type Source struct {
	Reader image.Reader
	Stream image.Stream
}

// Target is the image to be made: exactly one of Out and Stream is set.
type Target struct {
	// Format is the name of the format to write.
	Format string
	// Out is the output, which is emptied first. The caller opens, syncs, names and closes it; after an error its content is of no use.
	Out image.Output
	// Stream takes the image from its first byte to its last: a pipe, an upload. Formats that cannot be written so are refused, as are
	// several files, and a clone or a checkpoint is not possible.
	Stream io.Writer
	// Backing, if not nil, is the disk on which the new image is based: it holds only the differences.
	Backing *Backing
	// Variant, ClusterSize, Compression, Level, Window, ContentID, Name and Sibling are as in image.CreateOptions.
	Variant     string
	ClusterSize int64
	Compression string
	Level       int
	Window      int
	ContentID   [16]byte
	Name        string
	Sibling     func(name string) (image.Output, error)
}

// Backing is the disk another image is based on.
type Backing struct {
	// Name is what the new image calls it, Format the format it says the file has.
	Name, Format string
	// Reader is its content. The caller closes it.
	Reader image.Reader
	// Identity says what the content is, for a copy that is to be taken up (FileIdentity).
	Identity string
}

// Options says how to copy. The zero value uses all processors and has no limits.
type Options struct {
	// Workers is the number of goroutines that move content; 0 is what suits the number of processors. Memory is bounded whatever the number.
	Workers int
	// Trust lets compressed content pass from format to format without being inflated and checked. Only for sources Hyperplane made itself.
	Trust bool
	// SHA256 computes the digest of the virtual disk's content, FileSHA256 that of the image's (first) file: on the way where the file is
	// written front to back, else by reading it again.
	SHA256, FileSHA256 bool
	// Checkpoint, if not nil, lets an interrupted copy be taken up. Only for a Reader as source and Out as target.
	Checkpoint *Checkpoint
	// MaxVirtualSize, MaxOutput and MaxRatio refuse hostile images with image.ErrLimit; 0 is no limit. MaxVirtualSize is in bytes, MaxOutput is the
	// number of bytes written, MaxRatio how many bytes of content the source may yield for each byte of its file.
	MaxVirtualSize int64
	MaxOutput      int64
	MaxRatio       int64
	// Progress, if not nil, is called about ten times a second and once at the end, from one goroutine at a time.
	Progress func(Progress)
}

// Result describes a finished copy.
type Result struct {
	Progress
	// SHA256 is the digest of the virtual disk's content, from offset 0 to the source's VirtualSize, if it was asked for.
	SHA256 [sha256.Size]byte
	// FileSHA256 is the digest of the image's file, if it was asked for, and FileSize the size of all its files in bytes.
	FileSHA256 [sha256.Size]byte
	FileSize   int64
	// Resumed is how far an earlier run had come, in bytes of the virtual disk.
	Resumed int64
}

// Convert copies src into a new image. It ends within one unit of work (about a MiB a worker) when ctx does.
func (f Formats) Convert(ctx context.Context, src Source, dst Target, o Options) (Result, error) {
	c, err := f.newConversion(src, dst, o)
	if err != nil {
		return Result{}, err
	}
	stop := c.report(ctx)
	defer stop()
	if err := c.closeCheckpoint(c.copy(ctx)); err != nil {
		return Result{}, err
	}
	stop()
	res := Result{Progress: c.progress()}
	if c.hash != nil {
		c.hash.Sum(res.SHA256[:0])
	}
	res.FileSize, res.Resumed = c.fileSize(), c.resumed
	if o.FileSHA256 {
		if res.FileSHA256, err = c.fileDigest(ctx); err != nil {
			return Result{}, err
		}
	}
	return res, nil
}

// conversion is the state of one Convert.
type conversion struct {
	src    Source
	info   image.Info
	format image.Format
	out    *guard
	// siblings are the other files of the image.
	siblings []*guard
	w        image.Writer
	opts     Options
	count    engine.Counters
	hash     hash.Hash // nil if no digest is wanted

	backing  *Backing
	forward  bool                // the output is written front to back
	fileHash hash.Hash           // of the output's bytes, if it is written front to back
	journal  *checkpoint.Journal // nil without a checkpoint
	resumed  int64
}

func (f Formats) newConversion(src Source, dst Target, o Options) (*conversion, error) {
	format, err := f.find(dst.Format)
	if err != nil {
		return nil, err
	}
	if format.Create == nil {
		return nil, fault.New(fault.InvalidArgument, "format %s is not written; choose %s", dst.Format, strings.Join(f.Writable(), ", "))
	}
	c := &conversion{src: src, format: format, opts: o, backing: dst.Backing}
	switch {
	case (src.Reader == nil) == (src.Stream == nil):
		return nil, fault.New(fault.Internal, "a conversion needs either a reader or a stream")
	case src.Reader != nil:
		c.info = src.Reader.Info()
	default:
		c.info = src.Stream.Info()
	}
	if o.MaxVirtualSize > 0 && c.info.VirtualSize > o.MaxVirtualSize {
		return nil, image.Limitf("the disk has %d bytes, the limit is %d", c.info.VirtualSize, o.MaxVirtualSize)
	}
	if o.SHA256 {
		c.hash = sha256.New()
	}
	if err := c.create(dst); err != nil {
		return nil, c.closeCheckpoint(err)
	}
	return c, nil
}

// create empties the output and begins the image.
func (c *conversion) create(dst Target) (err error) {
	out, err := c.output(dst)
	if err != nil {
		return err
	}
	c.out = newGuard(out, &budget{limit: c.opts.MaxOutput})
	if err := c.begin(dst); err != nil {
		return err
	}
	o := image.CreateOptions{
		VirtualSize: c.info.VirtualSize, ClusterSize: dst.ClusterSize, Variant: dst.Variant, Compression: dst.Compression, Level: dst.Level,
		Window: dst.Window, SourceUnit: c.sourceUnit(), ContentID: dst.ContentID, Name: dst.Name,
	}
	if dst.Sibling != nil {
		o.Sibling = func(name string) (image.Output, error) { return c.sibling(dst, name) }
	}
	if dst.Backing != nil {
		o.Backing = &image.Backing{Name: dst.Backing.Name, Format: dst.Backing.Format}
	}
	if c.w, err = c.format.Create(c.out, o); err != nil {
		return err
	}
	return c.goForward(dst)
}

// sibling makes another file of the image.
func (c *conversion) sibling(dst Target, name string) (image.Output, error) {
	out, err := dst.Sibling(name)
	if err != nil {
		return nil, err
	}
	g := newGuard(out, c.out.total)
	c.siblings = append(c.siblings, g)
	if c.journal != nil && !c.journal.Fresh() {
		return g, nil
	}
	return g, fault.Wrap(g.Truncate(0), "empty %s", name)
}

// fileSize returns the size of all files of the image.
func (c *conversion) fileSize() (n int64) {
	for _, g := range append([]*guard{c.out}, c.siblings...) {
		n += g.size()
	}
	return n
}

// begin empties the output, unless an earlier run's is taken up.
func (c *conversion) begin(dst Target) error {
	if c.opts.Checkpoint != nil {
		if err := c.openCheckpoint(dst); err != nil || !c.journal.Fresh() {
			return err
		}
	}
	if dst.Stream != nil {
		return nil
	}
	return fault.Wrap(c.out.Truncate(0), "empty the output")
}

// output returns where the image goes.
func (c *conversion) output(dst Target) (image.Output, error) {
	switch {
	case (dst.Out == nil) == (dst.Stream == nil):
		return nil, fault.New(fault.Internal, "a conversion needs either a file or a stream to write to")
	case dst.Out != nil:
		return dst.Out, nil
	case c.opts.Checkpoint != nil || dst.Backing != nil || dst.Sibling != nil:
		return nil, fault.New(fault.InvalidArgument, "an output that can only be written front to back has no checkpoint, backing file or other files")
	}
	w := dst.Stream
	if c.opts.FileSHA256 {
		c.fileHash = sha256.New()
		w = io.MultiWriter(w, c.fileHash)
	}
	return engine.NewForward(w), nil
}

// goForward tells the writer that the output is a stream.
func (c *conversion) goForward(dst Target) error {
	if dst.Stream == nil {
		return nil
	}
	c.forward = true
	w, ok := c.w.(image.Forwarder)
	if !ok {
		return image.Unsupportedf("%s %s cannot be written front to back; write a file", dst.Format, dst.Variant)
	}
	return w.Forward()
}

// fileDigest returns the digest of the image's file.
func (c *conversion) fileDigest(ctx context.Context) (sum [sha256.Size]byte, err error) {
	if c.fileHash == nil {
		return c.out.digest(ctx)
	}
	c.fileHash.Sum(sum[:0])
	return sum, nil
}

// passUnit is the smallest compressed unit that is worth passing on as it is: smaller ones compress worse and not every reader takes them.
const passUnit = 64 << 10

// sourceUnit returns the unit that a compressed target should choose: that of a stream, whose chunks come one by one, or that of a compressed source, whose
// units can then be passed on.
func (c *conversion) sourceUnit() int64 {
	if c.src.Stream != nil || c.info.Compression != "" && c.info.ClusterSize >= passUnit {
		return c.info.ClusterSize
	}
	return 0
}

func (c *conversion) copy(ctx context.Context) error {
	o := engine.Options{Workers: c.opts.Workers, Trust: c.opts.Trust, Forward: c.forward, Hash: c.hash, Counters: &c.count, Check: c.check}
	if c.backing != nil {
		o.Base = c.backing.Reader
	}
	if c.journal != nil {
		o.Journal, o.Replay = c.journal, c.noteResumed(c.journal.Records())
	}
	hashed := true
	var err error
	if c.src.Reader != nil {
		err = engine.Copy(ctx, c.src.Reader, c.w, c.out, o)
	} else {
		hashed, err = engine.CopyStream(ctx, c.src.Stream, c.w, c.out, o)
	}
	if err != nil {
		return err
	}
	if err := c.w.Finish(); err != nil {
		return err
	}
	if c.hash != nil && !hashed {
		if c.forward {
			return image.Unsupportedf("the source's content comes out of order, so its digest cannot be computed on the way")
		}
		return c.rehash(ctx)
	}
	return nil
}

// rehash computes the digest from the output, for content that did not come in order.
func (c *conversion) rehash(ctx context.Context) error {
	if len(c.siblings) > 0 {
		return image.Unsupportedf("the source's content comes out of order, so its digest cannot be computed on the way to several files")
	}
	r, err := c.format.Open(image.NewFile(struct{ io.ReaderAt }{c.out}, c.out.size(), "output"), image.OpenOptions{})
	if err != nil {
		return fault.Wrap(err, "read the output back for its digest")
	}
	c.hash.Reset()
	return hashDisk(ctx, r, c.info.VirtualSize, c.hash)
}

// ratioGrace is how much content any source may yield before the ratio is looked at.
const ratioGrace = 64 << 20

// check enforces MaxRatio.
func (c *conversion) check() error {
	if c.opts.MaxRatio <= 0 {
		return nil
	}
	data, size := c.count.Data.Load(), c.info.FileSize
	if size < 0 {
		size = c.bytesRead() // a stream; of a file parts may be read again and again
	}
	if data > ratioGrace && data/max(size, 1) > c.opts.MaxRatio {
		return image.Limitf("the source yields %d bytes of content from %d bytes, more than %d for each", data, size, c.opts.MaxRatio)
	}
	return nil
}
