package libvirt

import (
	"context"
	"errors"
	"io"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// source is what an upload sends. go-libvirt waits for ever after a reader's error, so one looks like the end to it and is kept here.
type source struct {
	ctx    context.Context //nolint:containedctx // a reader has no other place for it
	r      io.Reader
	limit  uint64
	sent   uint64
	failed error
}

// Read implements io.Reader.
func (s *source) Read(b []byte) (int, error) {
	if s.failed = s.ctx.Err(); s.failed != nil {
		return 0, io.EOF
	}
	n, err := s.r.Read(b)
	if uint64(n) > s.limit-s.sent {
		s.failed = fault.New(fault.OutOfRange, "the content has more than the volume's %d bytes", s.limit)
		return 0, io.EOF
	}
	s.sent += uint64(n)
	if err != nil && !errors.Is(err, io.EOF) {
		s.failed, err = err, io.EOF
	}
	return n, err
}

// uploadGrace is how long go-libvirt may take to notice that the connection was lost; it may also never do.
const uploadGrace = time.Second

// upload sends src into a volume. Cancelling is src's business.
func (d *Driver) upload(ctx context.Context, vol golibvirt.StorageVol, src *source) error {
	c, err := connect(ctx, d.opts.Socket)
	if err != nil {
		return err
	}
	defer c.close()
	done := make(chan error, 1)
	go func() { done <- c.StorageVolUpload(vol, src, 0, 0, 0) }()
	select {
	case err = <-done:
	case <-c.link.lost:
		timer := time.NewTimer(uploadGrace)
		defer timer.Stop()
		select {
		case err = <-done:
		case <-timer.C:
			return classify(golibvirt.ErrInterrupted, "volume %q: upload", vol.Name)
		}
	}
	if src.failed != nil {
		return fault.Wrap(src.failed, "volume %q: upload", vol.Name)
	}
	return classify(err, "volume %q: upload", vol.Name)
}
