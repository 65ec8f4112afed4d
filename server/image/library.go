package image

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/hyperplane-project/hyperplane/converters"
	exportv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/export/v1"
	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/keylock"
	"github.com/hyperplane-project/hyperplane/server/store"
)

const (
	// imagePrefix is where the store keeps images, as LocalImage messages by name.
	imagePrefix = "local-images/"
	// filePrefix is where it keeps the names of their files, by name of image.
	filePrefix = "local-image-files/"
)

// Fetcher gets images over HTTP.
type Fetcher interface {
	// Open returns the body and its size, or -1 if the server does not say it.
	Open(ctx context.Context, url string) (io.ReadCloser, int64, error)
}

// URLs says which file of this host a URL names.
type URLs interface {
	// LocalImage returns the path that a file URL names; other URLs are not local. One outside of the image directory is refused.
	LocalImage(url string) (path string, local bool, err error)
}

// Jobs knows what jobs have made.
type Jobs interface {
	Get(id string) (*exportv1.Job, error)
}

// Lister lists all VMs.
type Lister interface {
	List() []*hypervisorv1.VmInfo
}

// Deps are the collaborators of the library.
type Deps struct {
	// Dir is the folder of the images' files. Nothing else may be in it.
	Dir     string
	Store   store.Store
	Formats converters.Formats
	Fetch   Fetcher
	URLs    URLs
	Jobs    Jobs
	VMs     Lister
	Now     func() time.Time
	// NewID makes names of files unique.
	NewID func() string
}

// Library is the host's images. It implements the LocalImageService.
type Library struct {
	hypervisorv1.UnimplementedLocalImageServiceServer
	Deps
	adding  keylock.Map[string] // by name of image: two additions come one after the other
	mu      sync.Mutex
	readers map[string]int // by name of file
	retired map[string]bool
}

var _ hypervisorv1.LocalImageServiceServer = (*Library)(nil)

// OpenLibrary makes the folder if it is missing, and removes files in it that belong to no image: what a daemon that was killed has left.
func OpenLibrary(ctx context.Context, d Deps) (*Library, error) {
	if err := os.MkdirAll(d.Dir, 0o700); err != nil {
		return nil, fault.Wrap(err, "image store")
	}
	l := &Library{Deps: d, readers: make(map[string]int), retired: make(map[string]bool)}
	known := make(map[string]bool)
	err := d.Store.View(ctx, func(r store.Reader) error {
		for e := range r.Scan(filePrefix, "") {
			known[string(e.Value)] = true
		}
		return nil
	})
	if err != nil {
		return nil, fault.Wrap(err, "image store")
	}
	entries, err := os.ReadDir(d.Dir)
	if err != nil {
		return nil, fault.Wrap(err, "image store")
	}
	for _, e := range entries {
		if !known[e.Name()] && e.Type().IsRegular() {
			if err := os.Remove(filepath.Join(d.Dir, e.Name())); err != nil {
				return nil, fault.Wrap(err, "image store")
			}
		}
	}
	return l, nil
}

// Locate returns the raw file of an image, which stays as it is until release is called, also if the image is replaced or deleted meanwhile.
func (l *Library) Locate(ctx context.Context, name string) (file string, release func(), err error) {
	_, file, release, err = l.Open(ctx, name)
	return file, release, err
}

// Open is Locate and returns what is known of the image too.
func (l *Library) Open(ctx context.Context, name string) (image *hypervisorv1.LocalImage, file string, release func(), err error) {
	l.mu.Lock() // so that nobody retires the file between the look-up and the note that it is read
	defer l.mu.Unlock()
	image, base, err := l.find(ctx, name)
	if err != nil {
		return nil, "", nil, err
	}
	file = filepath.Join(l.Dir, base)
	if _, err := os.Stat(file); err != nil {
		return nil, "", nil, fault.As(fault.DataLoss, err, "image %q: its file has gone; add it again with replace", name)
	}
	l.readers[base]++
	return image, file, sync.OnceFunc(func() { l.release(base) }), nil
}

// find reads an image's record and the name of its file.
func (l *Library) find(ctx context.Context, name string) (image *hypervisorv1.LocalImage, base string, err error) {
	image = new(hypervisorv1.LocalImage)
	err = l.Store.View(ctx, func(r store.Reader) error {
		e, err := r.Get(imagePrefix + name)
		if err != nil {
			return err
		}
		f, err := r.Get(filePrefix + name)
		base = string(f.Value)
		return errors.Join(err, fault.As(fault.DataLoss, proto.Unmarshal(e.Value, image), "state: %s", e.Key))
	})
	if errors.Is(err, store.ErrNotFound) {
		return nil, "", fault.New(fault.NotFound, "image %q: this host has none of this name; list them with ListLocalImages", name)
	}
	return image, base, fault.Wrap(err, "image %q", name)
}

func (l *Library) release(base string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.readers[base]--; l.readers[base] > 0 {
		return
	}
	delete(l.readers, base)
	if l.retired[base] {
		delete(l.retired, base)
		_ = os.Remove(filepath.Join(l.Dir, base)) // what stays is removed at the next start
	}
}

// retire removes a file that belongs to no image any more, as soon as nobody reads it. The caller holds mu.
func (l *Library) retire(base string) error {
	if l.readers[base] > 0 {
		l.retired[base] = true
		return nil
	}
	if err := os.Remove(filepath.Join(l.Dir, base)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fault.Wrap(err, "image store")
	}
	return nil
}

// fileName makes a name of a file of one of an image: a slash becomes a percent sign, which names do not have.
func (l *Library) fileName(name string) string {
	return strings.ReplaceAll(name, "/", "%") + "%" + l.NewID()[:8] + ".raw"
}

// usedBy returns the UUIDs of the VMs that name an image.
func (l *Library) usedBy(name string) (uuids []string) {
	for _, info := range l.VMs.List() {
		if info.GetImageName() == name {
			uuids = append(uuids, info.GetUuid())
		}
	}
	return uuids
}

// maxName is the length of an image's name in bytes.
const maxName = 200

// checkName refuses what is no name of an image.
func checkName(field, name string) error {
	if name == "" || len(name) > maxName {
		return fault.New(fault.InvalidArgument, "%s: must have 1 to %d bytes, this one has %d", field, maxName, len(name))
	}
	for _, r := range name {
		if !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:/", r) {
			return fault.New(fault.InvalidArgument, "%s: %q has %q in it; letters, digits, and - _ . : / are allowed", field, name, r)
		}
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == "" || part == "." || part == ".." {
			return fault.New(fault.InvalidArgument, "%s: %q has the part %q", field, name, part)
		}
	}
	return nil
}
