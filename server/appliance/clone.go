package appliance

import (
	"context"
	"path/filepath"
	"slices"

	"google.golang.org/grpc"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// CloneDomain implements ApplianceService.
func (s *Service) CloneDomain(req *hypervisorv1.CloneDomainRequest, stream grpc.ServerStreamingServer[hypervisorv1.CloneDomainResponse]) error {
	tell := &teller{now: s.Now, send: func(p *hypervisorv1.ApplianceProgress) error {
		return stream.Send(&hypervisorv1.CloneDomainResponse{Progress: p})
	}}
	made, err := s.clone(stream.Context(), req, tell)
	if err != nil {
		return err
	}
	return stream.Send(&hypervisorv1.CloneDomainResponse{Final: true, Domain: made})
}

func (s *Service) clone(ctx context.Context, req *hypervisorv1.CloneDomainRequest, tell *teller) (*hypervisorv1.MadeDomain, error) {
	if err := checkName("name", req.GetName()); err != nil {
		return nil, err
	}
	m, release, err := s.take(ctx, req.GetDomain())
	if err != nil {
		return nil, err
	}
	defer release()
	if err := checkMachineName("name", req.GetName(), m.managed()); err != nil {
		return nil, err
	}
	if err := s.nameFree(ctx, req.GetName()); err != nil {
		return nil, err
	}
	fill := func(ctx context.Context, files []string) error {
		return capture{Service: s, m: m, to: files, formats: formatsOf(m.disks), tell: tell}.run(ctx)
	}
	if m.managed() {
		return s.cloneVM(ctx, m, req, fill, tell)
	}
	files, err := s.cloneFiles(ctx, m.layout, req)
	if err != nil {
		return nil, err
	}
	revision := hypervisor.Revision{UUID: s.NewUUID(), Name: req.GetName()}
	if !req.GetKeepMacAddresses() {
		revision.MACs = s.newMACs(m.layout)
	}
	return making{
		Service: s, definition: m.definition, layout: m.layout, revision: revision, files: files, fill: fill, source: m.uuid(),
		variables: m.layout.Variables, variablesTarget: variablesFile(m.layout.Variables, req.GetName(), revision.UUID), start: req.GetStart(), tell: tell,
	}.run(ctx)
}

func (s *Service) cloneVM(
	ctx context.Context, m *machine, req *hypervisorv1.CloneDomainRequest, fill func(context.Context, []string) error, tell *teller,
) (*hypervisorv1.MadeDomain, error) {
	for field, set := range map[string]bool{"files": len(req.GetFiles()) > 0, "pool": req.GetPool() != "", "keep_mac_addresses": req.GetKeepMacAddresses()} {
		if set {
			return nil, fault.New(fault.InvalidArgument, "%s: %q is a VM, whose clone has a directory and addresses of its own; leave it away", field, req.GetDomain())
		}
	}
	userData, err := s.userData(m)
	if err != nil {
		return nil, err
	}
	return makingVM{
		Service: s, uuid: s.NewUUID(), info: another(m.record.GetVmInfo(), req.GetName()), userData: userData, source: m.uuid(), fill: fill, start: req.GetStart(),
		tell: tell,
	}.run(ctx)
}

// cloneFiles returns where the disks of a clone lie.
func (s *Service) cloneFiles(ctx context.Context, layout hypervisor.Appliance, req *hypervisorv1.CloneDomainRequest) ([]string, error) {
	switch {
	case len(req.GetFiles()) > 0 && req.GetPool() != "":
		return nil, fault.New(fault.InvalidArgument, "pool: is given with files; give one of them")
	case len(req.GetFiles()) > 0:
		return s.checkFiles(ctx, layout, req.GetFiles())
	}
	dir := ""
	if req.GetPool() != "" {
		pool, err := s.Driver.GetPool(ctx, req.GetPool())
		if err != nil {
			return nil, err
		}
		if pool.Type != "dir" || pool.Path == "" {
			return nil, fault.New(fault.Unimplemented, "pool: %q is of type %s; only pools of directories are used", pool.Name, pool.Type)
		}
		dir = pool.Path
	}
	return filesFor(layout.Disks, req.GetName(), dir), nil
}

// filesFor names the files of a new machine's disks, in a folder or, if dir is empty, beside the old ones.
func filesFor(disks []hypervisor.ApplianceDisk, name, dir string) []string {
	files := make([]string, len(disks))
	for i, d := range disks {
		where := dir
		if where == "" {
			where = filepath.Dir(d.File)
		}
		files[i] = diskFile(where, name, d)
	}
	return files
}

func (s *Service) checkFiles(ctx context.Context, layout hypervisor.Appliance, files []string) ([]string, error) {
	if len(files) != len(layout.Disks) {
		return nil, fault.New(fault.InvalidArgument, "files: %d files for %d disks", len(files), len(layout.Disks))
	}
	pools, err := s.Driver.ListPools(ctx)
	if err != nil {
		return nil, err
	}
	var allowed []string
	for _, d := range layout.Disks {
		allowed = append(allowed, filepath.Dir(d.File))
	}
	for _, p := range pools {
		if p.Type == "dir" && p.Path != "" {
			allowed = append(allowed, filepath.Clean(p.Path))
		}
	}
	for i, file := range files {
		if err := checkName("files", filepath.Base(file)); err != nil {
			return nil, err
		}
		if filepath.Clean(file) != file || !slices.Contains(allowed, filepath.Dir(file)) {
			return nil, fault.New(fault.PermissionDenied, "files[%d]: %q lies neither beside a disk of the source nor in the directory of a storage pool", i, file)
		}
		if slices.Contains(files[:i], file) {
			return nil, fault.New(fault.InvalidArgument, "files[%d]: %q is given twice", i, file)
		}
	}
	return files, nil
}
