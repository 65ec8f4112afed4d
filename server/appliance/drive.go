package appliance

import (
	"context"
	"slices"

	"golang.org/x/sys/unix"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// noFollow opens no link.
const noFollow = unix.O_NOFOLLOW

// InsertIsoImage implements ApplianceService.
func (s *Service) InsertIsoImage(ctx context.Context, req *hypervisorv1.InsertIsoImageRequest) (*hypervisorv1.InsertIsoImageResponse, error) {
	if err := checkISO("filename", req.GetFilename()); err != nil {
		return nil, err
	}
	unlock, err := s.isos.Lock(ctx, req.GetFilename()) // so that it is not deleted meanwhile
	if err != nil {
		return nil, fault.Wrap(err, "ISO image %q: something else is done with it", req.GetFilename())
	}
	defer unlock()
	image, err := s.describeISO(req.GetFilename())
	if err != nil {
		return nil, err
	}
	dom, drives, release, err := s.drives(ctx, req.GetDomain())
	if err != nil {
		return nil, err
	}
	defer release()
	device := req.GetDevice()
	switch empty := slices.IndexFunc(drives, func(d hypervisor.Drive) bool { return d.File == "" }); {
	case device != "":
		if err := hasDrive(dom, drives, device); err != nil {
			return nil, err
		}
	case empty >= 0:
		device = drives[empty].Device
	case len(drives) == 1:
		device = drives[0].Device
	case len(drives) > 1:
		return nil, fault.New(fault.FailedPrecondition, "domain %q: has %d CD drives, and none is empty; give the device", dom.Name, len(drives))
	case dom.State.Alive():
		return nil, fault.New(fault.FailedPrecondition, "domain %q: has no CD drive and is %s; stop it, and it gets one", dom.Name, dom.State)
	}
	device, err = s.Driver.ChangeMedium(ctx, dom.UUID, device, image.GetPath())
	if err != nil {
		return nil, err
	}
	return &hypervisorv1.InsertIsoImageResponse{Device: device}, nil
}

// EjectIsoImage implements ApplianceService.
func (s *Service) EjectIsoImage(ctx context.Context, req *hypervisorv1.EjectIsoImageRequest) (*hypervisorv1.EjectIsoImageResponse, error) {
	dom, drives, release, err := s.drives(ctx, req.GetDomain())
	if err != nil {
		return nil, err
	}
	defer release()
	device := req.GetDevice()
	if device != "" {
		if err := hasDrive(dom, drives, device); err != nil {
			return nil, err
		}
	} else {
		full := slices.DeleteFunc(drives, func(d hypervisor.Drive) bool { return d.File == "" })
		if len(full) != 1 {
			return nil, fault.New(fault.FailedPrecondition, "domain %q: %d CD drives have something in them; give the device", dom.Name, len(full))
		}
		device = full[0].Device
	}
	if device, err = s.Driver.ChangeMedium(ctx, dom.UUID, device, ""); err != nil {
		return nil, err
	}
	return &hypervisorv1.EjectIsoImageResponse{Device: device}, nil
}

// drives returns the CD drives of a domain that is no VM. release gives it free.
func (s *Service) drives(ctx context.Context, ref string) (dom hypervisor.Domain, drives []hypervisor.Drive, release func(), err error) {
	uuid, managed, err := s.identify(ctx, ref)
	if err != nil {
		return dom, nil, nil, err
	}
	if managed {
		return dom, nil, nil, fault.New(fault.FailedPrecondition,
			"domain %q: is a VM of this hypervisor, which has no CD drive but for its user data; give it a volume made from the image", ref)
	}
	release, err = s.domains.Lock(ctx, uuid)
	if err != nil {
		return dom, nil, nil, fault.Wrap(err, "domain %q: something else is done with it", ref)
	}
	dom, drives, err = s.readDrives(ctx, uuid)
	if err != nil {
		release()
		return dom, nil, nil, err
	}
	return dom, drives, release, nil
}

func (s *Service) readDrives(ctx context.Context, uuid string) (hypervisor.Domain, []hypervisor.Drive, error) {
	dom, err := s.Driver.FindDomain(ctx, uuid)
	if err != nil {
		return dom, nil, err
	}
	definition, err := s.Driver.Definition(ctx, uuid)
	if err != nil {
		return dom, nil, err
	}
	layout, err := s.Driver.DescribeDefinition(definition)
	return dom, layout.Drives, err
}

func hasDrive(dom hypervisor.Domain, drives []hypervisor.Drive, device string) error {
	for _, d := range drives {
		if d.Device == device {
			return nil
		}
	}
	return fault.New(fault.NotFound, "domain %q: has no CD drive %q", dom.Name, device)
}
