package appliance

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"

	"google.golang.org/grpc"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/atomicfile"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// UploadIsoImage implements ApplianceService.
func (s *Service) UploadIsoImage(stream grpc.ClientStreamingServer[hypervisorv1.UploadIsoImageRequest, hypervisorv1.UploadIsoImageResponse]) error {
	first, err := stream.Recv()
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	spec := first.GetSpec()
	if spec == nil {
		return fault.New(fault.InvalidArgument, "spec: must be in the first message")
	}
	if err := checkISO("spec.filename", spec.GetFilename()); err != nil {
		return err
	}
	unlock, err := s.isos.Lock(stream.Context(), spec.GetFilename())
	if err != nil {
		return fault.Wrap(err, "ISO image %q: something else is done with it", spec.GetFilename())
	}
	defer unlock()
	if err := s.replaceable(stream.Context(), spec); err != nil {
		return err
	}
	temp, err := s.receive(stream)
	if err != nil {
		return fault.Wrap(err, "ISO image %q", spec.GetFilename())
	}
	defer os.Remove(temp) //nolint:errcheck // what stays is removed at the next start
	path := filepath.Join(s.ISODir, spec.GetFilename())
	if spec.GetReplace() {
		err = os.Rename(temp, path)
	} else if err = os.Link(temp, path); errors.Is(err, os.ErrExist) {
		return fault.New(fault.AlreadyExists, "ISO image %q: is there already; use replace, or another name", spec.GetFilename())
	}
	if err = errors.Join(err, atomicfile.SyncDir(s.ISODir)); err != nil {
		return fault.Wrap(err, "ISO image %q", spec.GetFilename())
	}
	image, err := s.describeISO(spec.GetFilename())
	if err != nil {
		return err
	}
	return stream.SendAndClose(&hypervisorv1.UploadIsoImageResponse{Image: image})
}

// replaceable refuses a name that is taken before anything is sent.
func (s *Service) replaceable(ctx context.Context, spec *hypervisorv1.IsoImageSpec) error {
	if _, err := os.Lstat(filepath.Join(s.ISODir, spec.GetFilename())); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if !spec.GetReplace() {
		return fault.New(fault.AlreadyExists, "ISO image %q: is there already; use replace, or another name", spec.GetFilename())
	}
	return s.notInDrive(ctx, spec.GetFilename())
}

// receive keeps what arrives in a file.
func (s *Service) receive(stream grpc.ClientStreamingServer[hypervisorv1.UploadIsoImageRequest, hypervisorv1.UploadIsoImageResponse]) (path string, err error) {
	f, err := os.CreateTemp(s.ISODir, uploadPrefix+"*")
	if err != nil {
		return "", err
	}
	err = func() error {
		for {
			m, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return err
			}
			if m.GetSpec() != nil {
				return fault.New(fault.InvalidArgument, "spec: must be in the first message only")
			}
			if _, err := f.Write(m.GetData()); err != nil {
				return err
			}
		}
		if _, found := probeISO(f); !found {
			return fault.New(fault.InvalidArgument, "has no ISO 9660 or UDF file system: it is no ISO image")
		}
		// QEMU may run as another user; there are no secrets in it.
		return errors.Join(f.Chmod(0o644), f.Sync())
	}()
	if err = errors.Join(err, f.Close()); err != nil {
		return "", errors.Join(err, os.Remove(f.Name()))
	}
	return f.Name(), nil
}
