package appliance

import (
	"cmp"
	"context"
	"path/filepath"

	"google.golang.org/grpc"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
	"github.com/hyperplane-project/hyperplane/server/userdata"
)

// Limits of what a deployment may ask for.
const (
	maxUserData = 1 << 20
	maxCPUs     = 1024
	maxMemory   = 1 << 46
)

// DeployTemplate implements ApplianceService.
func (s *Service) DeployTemplate(req *hypervisorv1.DeployTemplateRequest, stream grpc.ServerStreamingServer[hypervisorv1.DeployTemplateResponse]) error {
	d := deployment{Service: s, req: req, tell: &teller{now: s.Now, send: func(p *hypervisorv1.ApplianceProgress) error {
		return stream.Send(&hypervisorv1.DeployTemplateResponse{Progress: p})
	}}}
	made, err := d.run(stream.Context())
	if err != nil {
		return err
	}
	return stream.Send(&hypervisorv1.DeployTemplateResponse{Final: true, Domain: made})
}

// deployment is the making of one machine of a template.
type deployment struct {
	*Service
	req  *hypervisorv1.DeployTemplateRequest
	m    *manifest
	tell *teller
}

func (d deployment) run(ctx context.Context) (*hypervisorv1.MadeDomain, error) {
	unlock, err := d.templates.Lock(ctx, d.req.GetTemplate())
	if err != nil {
		return nil, fault.Wrap(err, "template %q: something else is done with it", d.req.GetTemplate())
	}
	defer unlock()
	if _, d.m, err = d.template(ctx, d.req.GetTemplate()); err != nil {
		return nil, err
	}
	if err := d.check(); err != nil {
		return nil, err
	}
	if err := d.nameFree(ctx, d.req.GetName()); err != nil {
		return nil, err
	}
	if d.m.managed() {
		return d.vm(ctx)
	}
	return d.domain(ctx)
}

func (d deployment) check() error {
	req := d.req
	if err := checkMachineName("name", req.GetName(), d.m.managed()); err != nil {
		return err
	}
	switch {
	case req.GetCpus() > maxCPUs:
		return fault.New(fault.InvalidArgument, "cpus: %d are more than %d", req.GetCpus(), maxCPUs)
	case req.GetMemoryBytes()%(1<<20) != 0 || req.GetMemoryBytes() > maxMemory:
		return fault.New(fault.InvalidArgument, "memory_bytes: %d is no multiple of 1 MiB, or more than %d", req.GetMemoryBytes(), uint64(maxMemory))
	case len(req.GetCustomize().GetUserData()) > maxUserData:
		return fault.New(fault.InvalidArgument, "customize.user_data: has %d bytes; %d is the most", len(req.GetCustomize().GetUserData()), maxUserData)
	}
	hostname := req.GetCustomize().GetHostname()
	if !d.m.managed() {
		if hostname != "" && !hostnameForm.MatchString(hostname) {
			return fault.New(fault.InvalidArgument, "customize.hostname: %q is not a host name (letters, digits, - and dots)", hostname)
		}
		return nil
	}
	if req.GetAutostart() {
		return fault.New(fault.InvalidArgument, "autostart: a VM's state after the host's start is the hypervisor's business; leave it away")
	}
	if hostname != "" && hostname != req.GetName() {
		return fault.New(fault.InvalidArgument, "customize.hostname: a VM's name is its host name; leave it away")
	}
	return nil
}

func (d deployment) fill(ctx context.Context, files []string) error {
	for i, disk := range d.m.Disks {
		src := sourceFile{path: filepath.Join(d.templatePath(d.m.Name), disk.File), format: hypervisor.DiskQCOW2}
		if err := d.copyFile(ctx, src, files[i], disk.format(), false, d.tell.about("making disk "+disk.Target)); err != nil {
			return fault.Wrap(err, "disk %s", disk.Target)
		}
	}
	return nil
}

func (d deployment) domain(ctx context.Context) (*hypervisorv1.MadeDomain, error) {
	layout, err := d.Driver.DescribeDefinition([]byte(d.m.Definition))
	if err != nil {
		return nil, err
	}
	name := d.req.GetName()
	m := making{
		Service: d.Service, definition: []byte(d.m.Definition), layout: layout, files: filesFor(layout.Disks, name, ""), fill: d.fill,
		start: d.req.GetStart(), autostart: d.req.GetAutostart(), tell: d.tell,
		revision: hypervisor.Revision{
			UUID: d.NewUUID(), Name: name, MACs: d.newMACs(layout), CPUs: d.req.GetCpus(), MemoryBytes: d.req.GetMemoryBytes(), Network: d.req.GetNetwork(), Eject: true,
		},
	}
	if v := d.m.Variables; v != nil {
		m.variables, m.variablesTarget = filepath.Join(d.templatePath(d.m.Name), v.File), variablesFile(layout.Variables, name, m.revision.UUID)
	}
	if c := d.req.GetCustomize(); c != nil {
		if len(m.files) == 0 {
			return nil, fault.New(fault.FailedPrecondition, "customize: the template has no disks")
		}
		m.seedTarget = filepath.Join(filepath.Dir(m.files[0]), name+seedSuffix)
		m.seed = func(ctx context.Context, path string) error {
			return userdata.WriteSeed(ctx, path, m.revision.UUID, cmp.Or(c.GetHostname(), name), userDataOf(c))
		}
	}
	return m.run(ctx)
}

// userDataOf returns user data that cloud-init takes without a complaint if there are none.
func userDataOf(c *hypervisorv1.Customization) []byte {
	if len(c.GetUserData()) == 0 {
		return []byte("#cloud-config\n")
	}
	return c.GetUserData()
}

func (d deployment) vm(ctx context.Context) (*hypervisorv1.MadeDomain, error) {
	info, err := d.m.info()
	if err != nil {
		return nil, err
	}
	info = another(info, d.req.GetName())
	if n := d.req.GetCpus(); n > 0 {
		info.VirtualCpus, info.MilliCpus = n, n*1000
	}
	if n := d.req.GetMemoryBytes(); n > 0 {
		info.MemoryInMib = n >> 20
	}
	if subnet := d.req.GetNetwork(); subnet != "" {
		info.SubnetId = subnet
		for i := range info.GetSecondarySubnetIds() {
			info.SecondarySubnetIds[i] = subnet
		}
	}
	m := makingVM{Service: d.Service, uuid: d.NewUUID(), info: info, fill: d.fill, start: d.req.GetStart(), tell: d.tell}
	if c := d.req.GetCustomize(); c != nil {
		m.userData = userDataOf(c)
	}
	return m.run(ctx)
}
