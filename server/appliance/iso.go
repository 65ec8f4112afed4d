package appliance

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/atomicfile"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/page"
)

const (
	isoSuffix = ".iso"
	// uploadPrefix begins the names of images that are arriving.
	uploadPrefix = ".upload-"
	// Volume descriptors begin at sector 16 (ECMA-119 section 6.7.1, ECMA-167 part 2).
	descriptorsAt  = 16 * 2048
	descriptorSize = 2048
	maxDescriptors = 16
)

func checkISO(field, name string) error {
	if err := checkName(field, name); err != nil {
		return err
	}
	if !strings.HasSuffix(strings.ToLower(name), isoSuffix) || len(name) == len(isoSuffix) {
		return fault.New(fault.InvalidArgument, "%s: %q does not end with %s", field, name, isoSuffix)
	}
	return nil
}

// probeISO reads the label of an ISO 9660 file system, and reports whether there is one or a UDF file system.
func probeISO(r io.ReaderAt) (label string, found bool) {
	sector := make([]byte, descriptorSize)
	for i := range int64(maxDescriptors) {
		if _, err := r.ReadAt(sector, descriptorsAt+i*descriptorSize); err != nil {
			return label, found
		}
		switch id := string(sector[1:6]); {
		case id == "CD001" && sector[0] == 1:
			label, found = string(bytes.TrimRight(sector[40:72], " \x00")), true
		case id == "NSR02", id == "NSR03":
			return label, true
		}
	}
	return label, found
}

// removeUploads removes what arrived only in part, and folders that were being deleted.
func (s *Service) removeUploads() error {
	var errs []error
	for _, dir := range []string{s.ISODir, s.BackupDir, s.TemplateDir} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return fault.Wrap(err, "appliance directory")
		}
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), uploadPrefix) || strings.HasPrefix(e.Name(), deletedPrefix) {
				errs = append(errs, os.RemoveAll(filepath.Join(dir, e.Name())))
			}
		}
	}
	return fault.Wrap(errors.Join(errs...), "remove what was left")
}

// ListIsoImages implements ApplianceService.
func (s *Service) ListIsoImages(ctx context.Context, req *hypervisorv1.ListIsoImagesRequest) (*hypervisorv1.ListIsoImagesResponse, error) {
	entries, err := os.ReadDir(s.ISODir)
	if err != nil {
		return nil, fault.Wrap(err, "ISO images")
	}
	var all []*hypervisorv1.IsoImage
	for _, e := range entries {
		if e.Type().IsRegular() && checkISO("filename", e.Name()) == nil {
			if image, err := s.describeISO(e.Name()); err == nil {
				all = append(all, image)
			}
		}
	}
	some, next, err := page.Cut(all, req.GetPageSize(), req.GetPageToken(), (*hypervisorv1.IsoImage).GetFilename)
	if err != nil {
		return nil, err
	}
	users, err := s.users(ctx)
	if err != nil {
		return nil, err
	}
	for _, image := range some {
		for _, user := range users[image.GetPath()] {
			image.UsedBy = append(image.UsedBy, user.Name)
		}
	}
	return &hypervisorv1.ListIsoImagesResponse{Images: some, NextPageToken: next}, nil
}

func (s *Service) describeISO(name string) (*hypervisorv1.IsoImage, error) {
	path := filepath.Join(s.ISODir, name)
	f, err := os.OpenFile(path, os.O_RDONLY|noFollow, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fault.New(fault.NotFound, "ISO image %q: does not exist; list them with ListIsoImages", name)
	}
	if err != nil {
		return nil, fault.Wrap(err, "ISO image %q", name)
	}
	defer f.Close() //nolint:errcheck // it was only read
	st, err := f.Stat()
	if err != nil {
		return nil, fault.Wrap(err, "ISO image %q", name)
	}
	label, _ := probeISO(f)
	return &hypervisorv1.IsoImage{
		Filename: name, Path: path, Size: uint64(st.Size()), ModifiedOn: timestamppb.New(st.ModTime()), Label: strings.ToValidUTF8(label, "?"),
	}, nil
}

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

func (s *Service) notInDrive(ctx context.Context, name string) error {
	users, err := s.users(ctx)
	if err != nil {
		return err
	}
	if in := users[filepath.Join(s.ISODir, name)]; len(in) > 0 {
		return fault.New(fault.FailedPrecondition, "ISO image %q: domain %q has it in a drive; take it out first", name, in[0].Name)
	}
	return nil
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

// DeleteIsoImage implements ApplianceService.
func (s *Service) DeleteIsoImage(ctx context.Context, req *hypervisorv1.DeleteIsoImageRequest) (*hypervisorv1.DeleteIsoImageResponse, error) {
	name := req.GetFilename()
	if err := checkISO("filename", name); err != nil {
		return nil, err
	}
	unlock, err := s.isos.Lock(ctx, name)
	if err != nil {
		return nil, fault.Wrap(err, "ISO image %q: something else is done with it", name)
	}
	defer unlock()
	if _, err := s.describeISO(name); err != nil {
		return nil, err
	}
	if err := s.notInDrive(ctx, name); err != nil {
		return nil, err
	}
	return &hypervisorv1.DeleteIsoImageResponse{}, fault.Wrap(os.Remove(filepath.Join(s.ISODir, name)), "ISO image %q", name)
}
