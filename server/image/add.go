package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/hyperplane-project/hyperplane/converters"
	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/guestfs"
	"github.com/hyperplane-project/hyperplane/server/store"
)

const (
	rawFormat = "raw"
	// maxRatio is how many bytes of content an image may yield for each byte read before it is taken for a bomb, maxVirtualSize the size of the largest
	// disk in bytes: those of volumes.
	maxRatio       = 1000
	maxVirtualSize = 64 << 40
	maxDescription = 64 << 10
)

// origin is where a new image comes from: a file of this host, or bytes.
type origin struct {
	source string // as LocalImage.source
	path   string
	format string // what is known of the file's format; empty = to be found out
	body   io.Reader
	size   int64 // of body, in bytes; -1 = not known
}

// progress is told what is done, how many bytes of it are done, and how many there are (0 = not known).
type progress func(what string, done, total uint64)

// addition is the making of one image.
type addition struct {
	*Library
	spec *hypervisorv1.LocalImageSpec
	tell progress
}

func (l *Library) check(spec *hypervisorv1.LocalImageSpec) error {
	if spec == nil {
		return fault.New(fault.InvalidArgument, "spec: is missing")
	}
	if err := checkName("spec.name", spec.GetName()); err != nil {
		return err
	}
	if _, err := guestfs.CompileFilter(spec.GetFilterLines()); err != nil {
		return fault.Wrap(err, "spec")
	}
	if len(spec.GetDescription()) > maxDescription {
		return fault.New(fault.InvalidArgument, "spec.description: has %d bytes; %d is the most", len(spec.GetDescription()), maxDescription)
	}
	if f := spec.GetFormat(); f != "" && !slices.Contains(l.Formats.Readable(), f) {
		return fault.New(fault.InvalidArgument, "spec.format: %q is not one of %s", f, strings.Join(l.Formats.Readable(), ", "))
	}
	if sum, err := hex.DecodeString(spec.GetExpectedSha256()); spec.GetExpectedSha256() != "" && (err != nil || len(sum) != sha256.Size) {
		return fault.New(fault.InvalidArgument, "spec.expected_sha256: is not 64 hexadecimal digits")
	}
	return nil
}

// add makes an image, or leaves nothing.
func (a *addition) add(ctx context.Context, from func(ctx context.Context) (origin, error)) (*hypervisorv1.LocalImage, error) {
	if err := a.check(a.spec); err != nil {
		return nil, err
	}
	name := a.spec.GetName()
	unlock, err := a.adding.Lock(ctx, name)
	if err != nil {
		return nil, fault.Wrap(err, "image %q: it is being added", name)
	}
	defer unlock()
	if _, _, err := a.find(ctx, name); err == nil && !a.spec.GetReplace() {
		return nil, fault.New(fault.AlreadyExists, "image %q: is there already; use replace, or another name", name)
	} else if err != nil && !fault.Is(err, fault.NotFound) {
		return nil, err
	}
	o, err := from(ctx)
	if err != nil {
		return nil, fault.Wrap(err, "image %q", name)
	}
	image, err := a.take(ctx, o)
	return image, fault.Wrap(err, "image %q", name)
}

// take reads the image's file, spooled if need be, and converts it.
func (a *addition) take(ctx context.Context, o origin) (*hypervisorv1.LocalImage, error) {
	var err error
	if o.body != nil {
		if o.path, err = a.spool(ctx, o); err != nil {
			return nil, err
		}
		defer os.Remove(o.path) //nolint:errcheck // what stays is removed at the next start
	} else if err := a.verifyFile(ctx, o.path); err != nil {
		return nil, err
	}
	base := a.fileName(a.spec.GetName())
	image, err := a.convert(ctx, o, filepath.Join(a.Dir, base))
	if err != nil {
		return nil, err
	}
	if err := a.publish(ctx, image, base); err != nil {
		return nil, errors.Join(err, os.Remove(filepath.Join(a.Dir, base)))
	}
	return image, nil
}

// spool keeps what arrives in a file, and looks at its digest on the way.
func (a *addition) spool(ctx context.Context, o origin) (path string, err error) {
	f, err := os.CreateTemp(a.Dir, ".arriving-*")
	if err != nil {
		return "", fault.Wrap(err, "image store")
	}
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(f, sum), &metered{Reader: o.body, ctx: ctx.Err, what: "getting image", total: max(0, o.size), tell: a.tell})
	if err == nil && o.size >= 0 && n != o.size {
		err = fault.New(fault.DataLoss, "ended after %d of %d bytes", n, o.size)
	}
	if err == nil {
		err = a.compare(sum)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return "", errors.Join(err, os.Remove(f.Name()))
	}
	return f.Name(), nil
}

// verifyFile compares a file of this host with the digest that it must have.
func (a *addition) verifyFile(ctx context.Context, path string) error {
	if a.spec.GetExpectedSha256() == "" {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // it was only read
	sum := sha256.New()
	if _, err := io.Copy(sum, &metered{Reader: f, ctx: ctx.Err, what: "verifying image", tell: a.tell}); err != nil {
		return err
	}
	return a.compare(sum)
}

func (a *addition) compare(sum hash.Hash) error {
	got := hex.EncodeToString(sum.Sum(nil))
	if want := a.spec.GetExpectedSha256(); want != "" && !strings.EqualFold(got, want) {
		return fault.New(fault.DataLoss, "its file has the SHA-256 %s, and %s is expected", got, want)
	}
	return nil
}

// convert makes the raw file and describes it.
func (a *addition) convert(ctx context.Context, o origin, to string) (*hypervisorv1.LocalImage, error) {
	format := a.spec.GetFormat()
	if format == "" {
		format = o.format
	}
	src, err := a.Formats.Open(ctx, o.path, converters.OpenOptions{Format: format})
	if err != nil {
		return nil, err
	}
	defer src.Close() //nolint:errcheck // it was only read
	if src.Info().VirtualSize%512 != 0 || src.Info().VirtualSize == 0 {
		return nil, fault.New(fault.InvalidArgument, "has %d bytes, which is no multiple of 512 above 0: it is no disk", src.Info().VirtualSize)
	}
	var result converters.Result
	err = converters.WriteFile(ctx, to, false, func(ctx context.Context, f *os.File) (err error) {
		result, err = a.Formats.Convert(ctx, converters.Source{Reader: src}, converters.Target{Format: rawFormat, Out: f, Name: filepath.Base(to)}, converters.Options{
			SHA256: true, MaxRatio: maxRatio, MaxVirtualSize: maxVirtualSize,
			Progress: func(p converters.Progress) { a.tell("unpacking image", uint64(p.Virtual), uint64(p.VirtualSize)) },
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Stat(to, &st); err != nil {
		return nil, errors.Join(err, os.Remove(to))
	}
	return &hypervisorv1.LocalImage{
		Name: a.spec.GetName(), Size: uint64(src.Info().VirtualSize), AllocatedBytes: uint64(st.Blocks) * 512, Sha256: result.SHA256[:],
		CreatedOn: timestamppb.New(a.Now()), Source: o.source, FilterLines: a.spec.GetFilterLines(), Description: a.spec.GetDescription(),
		OriginalFormat: src.Info().Format,
	}, nil
}

// publish makes the file the image's, in place of an older one.
func (a *addition) publish(ctx context.Context, image *hypervisorv1.LocalImage, base string) error {
	raw, err := proto.Marshal(image)
	if err != nil {
		return fault.As(fault.Internal, err, "record")
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	var old string
	_, err = a.Store.Update(ctx, func(w store.Writer) error {
		old = ""
		if e, err := w.Get(filePrefix + image.GetName()); err == nil {
			old = string(e.Value)
		}
		return errors.Join(w.Put(imagePrefix+image.GetName(), raw), w.Put(filePrefix+image.GetName(), []byte(base)))
	})
	if err != nil {
		return err
	}
	image.UsedBy = a.usedBy(image.GetName())
	if old != "" {
		_ = a.retire(old) // the image is there; a file that stays is removed at the next start
	}
	return nil
}

// metered reads until its context ends, and tells how much it has read.
type metered struct {
	io.Reader
	ctx   func() error
	what  string
	total int64
	tell  progress
	done  int64
}

func (m *metered) Read(p []byte) (int, error) {
	if err := m.ctx(); err != nil {
		return 0, err
	}
	n, err := m.Reader.Read(p)
	m.done += int64(n)
	m.tell(m.what, uint64(m.done), uint64(m.total))
	return n, err
}
