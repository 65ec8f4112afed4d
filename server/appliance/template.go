package appliance

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/page"
	"github.com/hyperplane-project/hyperplane/server/guestfs"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
	"github.com/hyperplane-project/hyperplane/server/store"
)

const (
	// templatePrefix is where the store keeps templates, as Template messages by name.
	templatePrefix     = "templates/"
	maxMetadata        = 64
	maxMetadataInBytes = 64 << 10
)

// traces are what tells one Linux machine from another: machine-id(5), sshd(8), systemd-random-seed(8), and logs and leases.
func traces() []guestfs.Trace {
	return []guestfs.Trace{
		{Directory: "/etc", Pattern: "machine-id", Empty: true},
		{Directory: "/var/lib/dbus", Pattern: "machine-id"},
		{Directory: "/etc/ssh", Pattern: "ssh_host_*_key"},
		{Directory: "/etc/ssh", Pattern: "ssh_host_*_key.pub"},
		{Directory: "/var/log", Pattern: "*", Below: true},
		{Directory: "/var/lib/dhcp", Pattern: "*"},
		{Directory: "/var/lib/NetworkManager", Pattern: "*.lease"},
		{Directory: "/var/lib/systemd", Pattern: "random-seed"},
		{Directory: "/var/lib/cloud/instances", Pattern: "*", Below: true},
		{Directory: "/var/lib/cloud", Pattern: "instance"},
		{Directory: "/var/lib/cloud/data", Pattern: "*"},
		{Directory: "/var/lib/cloud/sem", Pattern: "*"},
	}
}

// CreateTemplate implements ApplianceService.
func (s *Service) CreateTemplate(req *hypervisorv1.CreateTemplateRequest, stream grpc.ServerStreamingServer[hypervisorv1.CreateTemplateResponse]) error {
	tell := &teller{now: s.Now, send: func(p *hypervisorv1.ApplianceProgress) error {
		return stream.Send(&hypervisorv1.CreateTemplateResponse{Progress: p})
	}}
	t, err := s.makeTemplate(stream.Context(), req, tell)
	if err != nil {
		return err
	}
	return stream.Send(&hypervisorv1.CreateTemplateResponse{Final: true, Template: t})
}

func checkTemplate(req *hypervisorv1.CreateTemplateRequest) error {
	if err := checkName("name", req.GetName()); err != nil {
		return err
	}
	size := 0
	for k, v := range req.GetMetadata() {
		if k == "" {
			return fault.New(fault.InvalidArgument, "metadata: has an empty key")
		}
		size += len(k) + len(v)
	}
	if len(req.GetDescription()) > maxDescription || len(req.GetMetadata()) > maxMetadata || size > maxMetadataInBytes {
		return fault.New(fault.InvalidArgument, "description, metadata: at most %d bytes, and %d entries of together %d bytes", maxDescription, maxMetadata, maxMetadataInBytes)
	}
	return nil
}

func (s *Service) makeTemplate(ctx context.Context, req *hypervisorv1.CreateTemplateRequest, tell *teller) (*hypervisorv1.Template, error) {
	if err := checkTemplate(req); err != nil {
		return nil, err
	}
	name := req.GetName()
	unlock, err := s.templates.Lock(ctx, name)
	if err != nil {
		return nil, fault.Wrap(err, "template %q: something else is done with it", name)
	}
	defer unlock()
	if _, err := os.Lstat(s.templatePath(name)); err == nil {
		return nil, fault.New(fault.AlreadyExists, "template %q: is there already; choose another name", name)
	}
	m, release, err := s.take(ctx, req.GetDomain())
	if err != nil {
		return nil, err
	}
	defer release()
	if len(m.disks) == 0 {
		return nil, fault.New(fault.FailedPrecondition, "domain %q: has no disks", m.dom.Name)
	}
	r := recording{
		Service: s, m: m, dir: filepath.Join(s.TemplateDir, makingPrefix+s.NewUUID()), withoutUserData: true, tell: tell,
		manifest: &manifest{Version: manifestVersion, Name: name, Domain: m.dom.Name, DomainUUID: m.uuid(), Description: req.GetDescription(), Created: s.Now().UTC()},
	}
	if req.GetSeal() {
		r.prepare = func(ctx context.Context, files []string) error {
			tell.tell("sealing the root file system", 0, 0)
			return s.Guests.Seal(ctx, hypervisor.Disk{File: files[0], Format: hypervisor.DiskQCOW2}, traces())
		}
	}
	if err := s.keep(ctx, r, s.templatePath(name)); err != nil {
		return nil, fault.Wrap(err, "template %q", name)
	}
	t := s.templateOf(r, req)
	raw, err := proto.Marshal(t)
	if err == nil {
		_, err = s.Store.Update(ctx, func(w store.Writer) error { return w.Put(templatePrefix+name, raw) })
	}
	if err != nil {
		return nil, fault.Wrap(errors.Join(err, s.removeFolder(s.templatePath(name))), "template %q", name)
	}
	return t, nil
}

func (s *Service) templateOf(r recording, req *hypervisorv1.CreateTemplateRequest) *hypervisorv1.Template {
	t := &hypervisorv1.Template{
		Name: req.GetName(), Description: req.GetDescription(), Metadata: req.GetMetadata(), CreatedOn: timestamppb.New(r.manifest.Created),
		SourceDomain: r.m.dom.Name, Managed: r.m.managed(), Sealed: req.GetSeal(), Cpus: r.m.layout.CPUs, MemoryBytes: r.m.layout.MemoryBytes,
		Disks: uint32(len(r.manifest.Disks)), FileBytes: r.manifest.bytes(),
	}
	if info := r.m.record.GetVmInfo(); info != nil {
		t.Cpus, t.MemoryBytes = max(info.GetVirtualCpus(), (info.GetMilliCpus()+999)/1000), info.GetMemoryInMib()<<20
	}
	for _, d := range r.manifest.Disks {
		t.Size += d.Size
	}
	return t
}

func (s *Service) templatePath(name string) string { return filepath.Join(s.TemplateDir, name) }

// template reads a template.
func (s *Service) template(ctx context.Context, name string) (*hypervisorv1.Template, *manifest, error) {
	if err := checkName("template", name); err != nil {
		return nil, nil, err
	}
	t := new(hypervisorv1.Template)
	err := s.Store.View(ctx, func(r store.Reader) error {
		e, err := r.Get(templatePrefix + name)
		if err != nil {
			return err
		}
		return fault.As(fault.DataLoss, proto.Unmarshal(e.Value, t), "state: %s", e.Key)
	})
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil, fault.New(fault.NotFound, "template %q: does not exist; list them with ListTemplates", name)
	}
	if err != nil {
		return nil, nil, fault.Wrap(err, "template %q", name)
	}
	m, err := readManifest(s.templatePath(name))
	if err != nil {
		return nil, nil, fault.As(fault.DataLoss, err, "template %q: its files have gone or are broken; delete it", name)
	}
	return t, m, nil
}

// ListTemplates implements ApplianceService.
func (s *Service) ListTemplates(ctx context.Context, req *hypervisorv1.ListTemplatesRequest) (*hypervisorv1.ListTemplatesResponse, error) {
	var all []*hypervisorv1.Template
	err := s.Store.View(ctx, func(r store.Reader) error {
		all = nil
		for e := range r.Scan(templatePrefix, "") {
			t := new(hypervisorv1.Template)
			if err := proto.Unmarshal(e.Value, t); err != nil {
				return fault.As(fault.DataLoss, err, "state: %s", e.Key)
			}
			all = append(all, t)
		}
		return nil
	})
	if err != nil {
		return nil, fault.Wrap(err, "templates")
	}
	some, next, err := page.Cut(all, req.GetPageSize(), req.GetPageToken(), (*hypervisorv1.Template).GetName)
	if err != nil {
		return nil, err
	}
	return &hypervisorv1.ListTemplatesResponse{Templates: some, NextPageToken: next}, nil
}

// DeleteTemplate implements ApplianceService.
func (s *Service) DeleteTemplate(ctx context.Context, req *hypervisorv1.DeleteTemplateRequest) (*hypervisorv1.DeleteTemplateResponse, error) {
	name := req.GetTemplate()
	unlock, err := s.templates.Lock(ctx, name)
	if err != nil {
		return nil, fault.Wrap(err, "template %q: something else is done with it", name)
	}
	defer unlock()
	if _, _, err := s.template(ctx, name); err != nil && !fault.Is(err, fault.DataLoss) {
		return nil, err
	}
	if _, err := s.Store.Update(ctx, func(w store.Writer) error { return w.Delete(templatePrefix + name) }); err != nil {
		return nil, fault.Wrap(err, "template %q", name)
	}
	if err := s.removeFolder(s.templatePath(name)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fault.Wrap(err, "template %q", name)
	}
	return &hypervisorv1.DeleteTemplateResponse{}, nil
}
