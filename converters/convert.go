package converters

import (
	"context"
	"crypto/sha256"
	"hash"
	"io"

	"github.com/hyperplane-project/hyperplane/converters/image"
	"github.com/hyperplane-project/hyperplane/converters/internal/engine"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// Source is what is copied: exactly one field is set. The caller closes it. A read that blocks, on a network say, is the caller's to end when the context does.
type Source struct {
	Reader image.Reader
	Stream image.Stream
}

// Target is the image to be made.
type Target struct {
	// Format is the name of the format to write.
	Format string
	// Out is the output, which is emptied first. The caller opens, syncs, names and closes it; after an error its content is of no use.
	Out image.Output
	// Variant, ClusterSize, Compression, Level, ContentID and Name are as in image.CreateOptions.
	Variant     string
	ClusterSize int64
	Compression string
	Level       int
	ContentID   [16]byte
	Name        string
}

// Options says how to copy. The zero value uses all processors and has no limits.
type Options struct {
	// Workers is the number of goroutines that move content; 0 is what suits the number of processors. Memory is bounded whatever the number.
	Workers int
	// Trust lets compressed content pass from format to format without being inflated and checked. Only for sources Hyperplane made itself.
	Trust bool
	// SHA256 computes the digest of the virtual disk's content.
	SHA256 bool
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
}

// Convert copies src into a new image. It ends within one unit of work (about a MiB a worker) when ctx does.
func (f Formats) Convert(ctx context.Context, src Source, dst Target, o Options) (Result, error) {
	c, err := f.newConversion(src, dst, o)
	if err != nil {
		return Result{}, err
	}
	stop := c.report(ctx)
	defer stop()
	if err := c.copy(ctx); err != nil {
		return Result{}, err
	}
	stop()
	res := Result{Progress: c.progress()}
	if c.hash != nil {
		c.hash.Sum(res.SHA256[:0])
	}
	return res, nil
}

// conversion is the state of one Convert.
type conversion struct {
	src    Source
	info   image.Info
	format image.Format
	out    *guard
	w      image.Writer
	opts   Options
	count  engine.Counters
	hash   hash.Hash // nil if no digest is wanted
}

func (f Formats) newConversion(src Source, dst Target, o Options) (*conversion, error) {
	format, err := f.find(dst.Format)
	if err != nil {
		return nil, err
	}
	if format.Create == nil {
		return nil, image.Unsupportedf("format %s is not written", dst.Format)
	}
	c := &conversion{src: src, format: format, opts: o}
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
	return c, c.create(dst)
}

// create empties the output and begins the image.
func (c *conversion) create(dst Target) (err error) {
	c.out = newGuard(dst.Out, c.opts.MaxOutput)
	if err := c.out.Truncate(0); err != nil {
		return fault.Wrap(err, "empty the output")
	}
	c.w, err = c.format.Create(c.out, image.CreateOptions{
		VirtualSize: c.info.VirtualSize, ClusterSize: dst.ClusterSize, Variant: dst.Variant, Compression: dst.Compression, Level: dst.Level,
		SourceUnit: c.sourceUnit(), ContentID: dst.ContentID, Name: dst.Name,
	})
	return err
}

// passUnit is the smallest compressed unit that is worth passing on as it is: smaller ones compress worse and not every reader takes them.
const passUnit = 64 << 10

// sourceUnit returns the unit that a compressed target should choose: that of a stream, whose chunks come one by one, or that of a compressed source, whose
// units can then be passed on.
func (c *conversion) sourceUnit() int64 {
	if c.src.Stream != nil || c.info.Compression == "zlib" && c.info.ClusterSize >= passUnit {
		return c.info.ClusterSize
	}
	return 0
}

func (c *conversion) copy(ctx context.Context) error {
	o := engine.Options{Workers: c.opts.Workers, Trust: c.opts.Trust, Hash: c.hash, Counters: &c.count, Check: c.check}
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
		return c.rehash(ctx)
	}
	return nil
}

// rehash computes the digest from the output, for content that did not come in order.
func (c *conversion) rehash(ctx context.Context) error {
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
