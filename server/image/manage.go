package image

import (
	"context"
	"errors"

	"google.golang.org/protobuf/proto"

	"github.com/hyperplane-project/hyperplane/converters"
	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/page"
	"github.com/hyperplane-project/hyperplane/server/store"
)

// ListLocalImages implements LocalImageService.
func (l *Library) ListLocalImages(
	ctx context.Context, req *hypervisorv1.ListLocalImagesRequest,
) (*hypervisorv1.ListLocalImagesResponse, error) {
	var all []*hypervisorv1.LocalImage
	err := l.Store.View(ctx, func(r store.Reader) error {
		all = nil
		for e := range r.Scan(imagePrefix, "") {
			image := new(hypervisorv1.LocalImage)
			if err := proto.Unmarshal(e.Value, image); err != nil {
				return fault.As(fault.DataLoss, err, "state: %s", e.Key)
			}
			all = append(all, image)
		}
		return nil
	})
	if err != nil {
		return nil, fault.Wrap(err, "images")
	}
	all, next, err := page.Cut(all, req.GetPageSize(), req.GetPageToken(), (*hypervisorv1.LocalImage).GetName)
	if err != nil {
		return nil, err
	}
	for _, image := range all {
		image.UsedBy = l.usedBy(image.GetName())
	}
	return &hypervisorv1.ListLocalImagesResponse{Images: all, NextPageToken: next}, nil
}

// GetLocalImage implements LocalImageService.
func (l *Library) GetLocalImage(ctx context.Context, req *hypervisorv1.GetLocalImageRequest) (*hypervisorv1.GetLocalImageResponse, error) {
	image, _, err := l.find(ctx, req.GetName())
	if err != nil {
		return nil, err
	}
	image.UsedBy = l.usedBy(req.GetName())
	return &hypervisorv1.GetLocalImageResponse{Image: image}, nil
}

// VerifyLocalImage implements LocalImageService.
func (l *Library) VerifyLocalImage(
	ctx context.Context, req *hypervisorv1.VerifyLocalImageRequest,
) (_ *hypervisorv1.VerifyLocalImageResponse, err error) {
	image, file, release, err := l.Open(ctx, req.GetName())
	if err != nil {
		return nil, err
	}
	defer release()
	r, err := l.Formats.Open(ctx, file, converters.OpenOptions{Format: rawFormat})
	if err != nil {
		return nil, fault.Wrap(err, "image %q", req.GetName())
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	sum, err := converters.Digest(ctx, r)
	if err != nil {
		return nil, fault.Wrap(err, "image %q", req.GetName())
	}
	if string(sum[:]) != string(image.GetSha256()) {
		return nil, fault.New(fault.DataLoss, "image %q: has changed: its SHA-256 was %x and is %x; add it again with replace", req.GetName(), image.GetSha256(), sum)
	}
	image.UsedBy = l.usedBy(req.GetName())
	return &hypervisorv1.VerifyLocalImageResponse{Image: image}, nil
}

// DeleteLocalImage implements LocalImageService. Those who read the image at this time can do so to its end.
func (l *Library) DeleteLocalImage(
	ctx context.Context, req *hypervisorv1.DeleteLocalImageRequest,
) (*hypervisorv1.DeleteLocalImageResponse, error) {
	name := req.GetName()
	unlock, err := l.adding.Lock(ctx, name)
	if err != nil {
		return nil, fault.Wrap(err, "image %q: it is being added", name)
	}
	defer unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	_, base, err := l.find(ctx, name)
	if err != nil {
		return nil, err
	}
	if users := l.usedBy(name); len(users) > 0 && !req.GetForce() {
		return nil, fault.New(fault.FailedPrecondition, "image %q: %d VMs name it, %s for one; destroy them or give them another image first, or use force",
			name, len(users), users[0])
	}
	if _, err := l.Store.Update(ctx, func(w store.Writer) error {
		return errors.Join(w.Delete(imagePrefix+name), w.Delete(filePrefix+name))
	}); err != nil {
		return nil, fault.Wrap(err, "image %q", name)
	}
	return &hypervisorv1.DeleteLocalImageResponse{}, l.retire(base)
}
