package virtualisation

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"

	"google.golang.org/grpc"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/pieces"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// UploadStorageVolume implements VirtualisationService.
func (s *Service) UploadStorageVolume(
	stream grpc.ClientStreamingServer[hypervisorv1.UploadStorageVolumeRequest, hypervisorv1.UploadStorageVolumeResponse],
) error {
	first, err := stream.Recv()
	if errors.Is(err, io.EOF) || err == nil && first.GetTarget() == nil {
		return fault.New(fault.InvalidArgument, "target: must be in the first message")
	}
	if err != nil {
		return err
	}
	data := pieces.NewReader(nil, func() ([]byte, error) {
		m, err := stream.Recv()
		if err == nil && m.GetTarget() != nil {
			return nil, fault.New(fault.InvalidArgument, "target: belongs into the first message only")
		}
		return m.GetData(), err
	})
	res, err := s.upload(stream.Context(), first.GetTarget(), data)
	if err != nil {
		return err
	}
	return stream.SendAndClose(res)
}

func (s *Service) upload(
	ctx context.Context, target *hypervisorv1.UploadStorageVolumeTarget, data io.Reader,
) (res *hypervisorv1.UploadStorageVolumeResponse, err error) {
	size := target.GetSizeBytes()
	if target.GetImageFile() != "" {
		file, length, err := s.openImage(target.GetImageFile())
		if err != nil {
			return nil, err
		}
		defer file.Close() //nolint:errcheck // only read
		if extra, err := data.Read(make([]byte, 1)); extra > 0 || err != nil && !errors.Is(err, io.EOF) {
			return nil, errors.Join(fault.New(fault.InvalidArgument, "data: does not go with image_file"), err)
		}
		data = file
		if target.GetCreate() && size == 0 {
			size = roundUp(length)
		}
	}
	if err := s.prepare(ctx, target, size); err != nil {
		return nil, err
	}
	n, err := s.fill(ctx, target, data)
	if err != nil {
		return nil, err
	}
	v, err := s.described(ctx, target.GetPool(), target.GetVolume())
	if err != nil {
		return nil, err
	}
	return &hypervisorv1.UploadStorageVolumeResponse{Volume: v, BytesWritten: n}, nil
}

// fill puts the content into a volume. One that was made for it is removed again if that fails.
func (s *Service) fill(ctx context.Context, target *hypervisorv1.UploadStorageVolumeTarget, data io.Reader) (n uint64, err error) {
	if target.GetCreate() {
		begun := begunUpload{target.GetPool(), target.GetVolume()}
		defer func() {
			if err != nil {
				err = errors.Join(err, s.remove(context.WithoutCancel(ctx), begun))
				return
			}
			err = s.end(ctx, begun)
		}()
		if err := s.begin(ctx, begun); err != nil {
			return 0, err
		}
	}
	if n, err = s.Driver.UploadVolume(ctx, target.GetPool(), target.GetVolume(), data); err == nil {
		err = s.settle(ctx, target)
	}
	return n, err
}

// roundUp returns the next size that a disk can have.
func roundUp(bytes uint64) uint64 {
	return (bytes + hypervisor.SectorSize - 1) / hypervisor.SectorSize * hypervisor.SectorSize
}

// openImage opens a file below the image directory, which no path or link leads out of.
func (s *Service) openImage(name string) (*os.File, uint64, error) {
	if filepath.IsAbs(name) {
		rel, err := filepath.Rel(s.ImageDir, name)
		if err != nil || !filepath.IsLocal(rel) {
			return nil, 0, fault.New(fault.InvalidArgument, "image_file: %q is not in the image directory %s", name, s.ImageDir)
		}
		name = rel
	}
	dir, err := os.OpenRoot(s.ImageDir)
	if err != nil {
		return nil, 0, fault.As(fault.FailedPrecondition, err, "image_file: image directory")
	}
	defer dir.Close() //nolint:errcheck // only read
	info, err := dir.Stat(name)
	if err == nil && !info.Mode().IsRegular() {
		return nil, 0, fault.New(fault.InvalidArgument, "image_file: %q is no regular file", name)
	}
	if err != nil {
		return nil, 0, imageFault(err, name)
	}
	file, err := dir.Open(name)
	if err != nil {
		return nil, 0, imageFault(err, name)
	}
	return file, uint64(info.Size()), nil
}

func imageFault(err error, name string) error {
	if code := fault.CodeOf(err); code != fault.Unknown {
		return fault.As(code, err, "image_file: %q", name)
	}
	return fault.As(fault.InvalidArgument, err, "image_file: %q is not in the image directory", name) // os.Root's error for a way out has no kind
}

// prepare looks whether a volume can be overwritten, or makes it.
func (s *Service) prepare(ctx context.Context, target *hypervisorv1.UploadStorageVolumeTarget, size uint64) error {
	if !target.GetCreate() {
		v, err := s.volume(ctx, target.GetPool(), target.GetVolume())
		if err != nil {
			return err
		}
		if target.GetSizeBytes() != 0 {
			return fault.New(fault.InvalidArgument, "size_bytes: is that of a new volume; set create, or leave it away")
		}
		return s.needUnused(ctx, v, "overwritten")
	}
	if err := checkName("volume", target.GetVolume()); err != nil {
		return err
	}
	if err := checkCapacity(size); err != nil {
		return fault.Wrap(err, "size_bytes")
	}
	if _, err := s.pool(ctx, target.GetPool()); err != nil {
		return err
	}
	return s.Driver.CreateVolume(ctx, hypervisor.StorageVolumeSpec{Pool: target.GetPool(), Name: target.GetVolume(), Capacity: size})
}

// settle has the pool look what the new content is, and compares its format with the wish.
func (s *Service) settle(ctx context.Context, target *hypervisorv1.UploadStorageVolumeTarget) error {
	if err := s.Driver.RefreshPool(ctx, target.GetPool()); err != nil {
		return err
	}
	v, err := s.Driver.GetVolume(ctx, target.GetPool(), target.GetVolume())
	if err == nil && target.GetFormat() != "" && v.Format != target.GetFormat() {
		err = fault.New(fault.InvalidArgument, "format: the content is %s, not %s", v.Format, target.GetFormat())
	}
	return err
}

// DownloadStorageVolume implements VirtualisationService.
func (s *Service) DownloadStorageVolume(
	req *hypervisorv1.DownloadStorageVolumeRequest, stream grpc.ServerStreamingServer[hypervisorv1.DownloadStorageVolumeResponse],
) error {
	ctx := stream.Context()
	v, err := s.volume(ctx, req.GetPool(), req.GetVolume())
	if err != nil {
		return err
	}
	if err := s.needUnwritten(ctx, v, "read"); err != nil {
		return err
	}
	return s.Driver.DownloadVolume(ctx, req.GetPool(), req.GetVolume(), sender{stream}, req.GetOffset(), req.GetLength())
}

// sender sends what is written in messages of a good size.
type sender struct {
	stream grpc.ServerStreamingServer[hypervisorv1.DownloadStorageVolumeResponse]
}

// Write implements io.Writer.
func (s sender) Write(b []byte) (int, error) {
	sent := 0
	for sent < len(b) {
		piece := b[sent:min(len(b), sent+pieces.Size)]
		if err := s.stream.Send(&hypervisorv1.DownloadStorageVolumeResponse{Data: piece}); err != nil {
			return sent, err
		}
		sent += len(piece)
	}
	return sent, nil
}
