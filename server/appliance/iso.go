package appliance

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"

	"google.golang.org/protobuf/types/known/timestamppb"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
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
