package volume

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/vm"
)

// Fetcher gets images over HTTP.
type Fetcher interface {
	// Open returns the body and its size, or -1 if the server does not say it.
	Open(ctx context.Context, url string) (io.ReadCloser, int64, error)
}

// HTTPFetcher is the Fetcher of the daemon.
type HTTPFetcher struct{ Client *http.Client }

// NewHTTPFetcher makes one whose connections are bounded in time but whose downloads are not.
func NewHTTPFetcher() *HTTPFetcher {
	t := http.DefaultTransport.(*http.Transport).Clone() //nolint:forcetypeassert // the standard library's own type
	t.ResponseHeaderTimeout = 30 * time.Second
	return &HTTPFetcher{Client: &http.Client{Transport: t}}
}

// Open implements Fetcher.
func (f *HTTPFetcher) Open(ctx context.Context, rawURL string) (io.ReadCloser, int64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, rawURL, http.NoBody)
	if err != nil {
		return nil, 0, fault.As(fault.InvalidArgument, err, "image_url")
	}
	res, err := f.Client.Do(req)
	if err != nil {
		return nil, 0, fault.As(fault.Unavailable, err, "image")
	}
	if res.StatusCode != http.StatusOK {
		code := fault.Unavailable
		if res.StatusCode == http.StatusNotFound {
			code = fault.NotFound
		}
		return nil, 0, errors.Join(fault.New(code, "image %s: the server answered %s", req.URL.Redacted(), res.Status), res.Body.Close())
	}
	return res.Body, res.ContentLength, nil
}

// localImage returns the path that a file URL names; other URLs are not local. A path outside the image directory is refused, also through
// symbolic links.
func (m *Maker) localImage(rawURL string) (path string, local bool, err error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return "", false, fault.As(fault.InvalidArgument, err, "image_url")
	}
	switch u.Scheme {
	case "http", "https":
		return "", false, nil
	case "file":
	default:
		return "", false, fault.New(fault.InvalidArgument, "image_url %s: scheme must be file, http or https", u.Redacted())
	}
	if u.Host != "" && u.Host != "localhost" {
		return "", false, fault.New(fault.InvalidArgument, "image_url %s: a file URL names no host", rawURL)
	}
	dir, err := filepath.EvalSymlinks(m.ImageDir)
	if err != nil {
		return "", false, fault.Wrap(err, "image directory")
	}
	path, err = filepath.EvalSymlinks(filepath.Clean(u.Path))
	if err != nil {
		return "", false, fault.Wrap(err, "image_url %s", rawURL)
	}
	if !strings.HasPrefix(path, dir+string(os.PathSeparator)) {
		return "", false, fault.New(fault.PermissionDenied, "image_url %s: lies outside the image directory %s", rawURL, m.ImageDir)
	}
	return path, true, nil
}

// spool keeps what r delivers in a file beside the volume. size is how much must come, or -1 if nobody knows.
func (m *Maker) spool(ctx context.Context, r io.Reader, size int64, v vm.VolumeSpec) (path string, err error) {
	f, err := os.CreateTemp(filepath.Dir(v.File), ".image-*")
	if err != nil {
		return "", fault.Wrap(err, "image")
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	if size >= 0 {
		r = io.LimitReader(r, size)
	}
	p := &progressReader{r: r, ctx: ctx.Err, total: max(0, size), tell: v.Progress}
	n, err := io.Copy(f, p)
	switch {
	case err != nil:
		return f.Name(), fault.Wrap(err, "image: after %d bytes", n)
	case size >= 0 && n < size:
		return f.Name(), fault.New(fault.DataLoss, "image: ended after %d of %d bytes", n, size)
	}
	return f.Name(), nil
}

// progressReader tells how much has been read, and ends when its context does.
type progressReader struct {
	r           io.Reader
	ctx         func() error
	done, total int64
	tell        func(done, total uint64)
}

func (p *progressReader) Read(b []byte) (int, error) {
	if err := p.ctx(); err != nil {
		return 0, err
	}
	n, err := p.r.Read(b)
	p.done += int64(n)
	if p.tell != nil {
		p.tell(uint64(p.done), uint64(p.total))
	}
	return n, err
}
