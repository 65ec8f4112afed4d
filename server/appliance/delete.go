package appliance

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// seedSuffix is how the file of a deployed machine's seed disk ends.
const seedSuffix = "-seed.iso"

// DeleteDomain implements ApplianceService.
func (s *Service) DeleteDomain(ctx context.Context, req *hypervisorv1.DeleteDomainRequest) (*hypervisorv1.DeleteDomainResponse, error) {
	uuid, managed, err := s.identify(ctx, req.GetDomain())
	if err != nil {
		return nil, err
	}
	if managed {
		return s.destroy(ctx, uuid, req)
	}
	release, err := s.domains.Lock(ctx, uuid)
	if err != nil {
		return nil, fault.Wrap(err, "domain %q: something else is done with it", req.GetDomain())
	}
	defer release()
	dom, err := s.Driver.FindDomain(ctx, uuid)
	if err != nil {
		return nil, err
	}
	if dom.State.Alive() && !req.GetForce() {
		return nil, fault.New(fault.FailedPrecondition, "domain %q: is %s; stop it first, or use force", dom.Name, dom.State)
	}
	var files []string
	if req.GetRemoveStorage() {
		if files, err = s.ownFiles(ctx, uuid, dom.Name); err != nil {
			return nil, fault.Wrap(err, "domain %q", dom.Name)
		}
	}
	if err := s.Driver.Kill(ctx, uuid); err != nil {
		return nil, err
	}
	if err := s.Driver.Undefine(ctx, uuid); err != nil {
		return nil, err
	}
	var errs []error
	for _, file := range files {
		if err := os.Remove(file); !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return &hypervisorv1.DeleteDomainResponse{RemovedFiles: files}, fault.Wrap(errors.Join(errs...), "domain %q: is deleted, but not all of its files", dom.Name)
}

// ownFiles returns the files of a domain's disks, which no other domain may have.
func (s *Service) ownFiles(ctx context.Context, uuid, name string) (files []string, err error) {
	users, err := s.users(ctx)
	if err != nil {
		return nil, err
	}
	definition, err := s.Driver.Definition(ctx, uuid)
	if err != nil {
		return nil, err
	}
	layout, err := s.Driver.DescribeDefinition(definition)
	if err != nil {
		return nil, err
	}
	for _, d := range layout.Disks {
		if d.File != "" {
			files = append(files, d.File)
		}
	}
	for _, d := range layout.Drives {
		if filepath.Base(d.File) == name+seedSuffix {
			files = append(files, d.File)
		}
	}
	for _, file := range files {
		for _, user := range users[file] {
			if user.UUID != uuid {
				return nil, fault.New(fault.FailedPrecondition, "the file %s is domain %q's too", file, user.Name)
			}
		}
	}
	return files, nil
}

func (s *Service) destroy(ctx context.Context, uuid string, req *hypervisorv1.DeleteDomainRequest) (*hypervisorv1.DeleteDomainResponse, error) {
	record, known := s.vm(uuid)
	if !known {
		return nil, fault.New(fault.NotFound, "domain %q: has gone", req.GetDomain())
	}
	if record.GetVmInfo().GetState() != hypervisorv1.State_STATE_STOPPED && !req.GetForce() {
		return nil, fault.New(fault.FailedPrecondition, "domain %q: is a VM that is not stopped; stop it first, or use force", req.GetDomain())
	}
	if _, err := s.Operations.DestroyVm(ctx, &hypervisorv1.DestroyVmRequest{Vm: uuid}); err != nil {
		return nil, err
	}
	res := new(hypervisorv1.DeleteDomainResponse)
	for _, place := range record.GetVolumeLocations() {
		res.RemovedFiles = append(res.RemovedFiles, place.GetFilename())
	}
	return res, nil
}
