package virtualisation

import (
	"cmp"
	"context"
	"slices"
	"strings"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/page"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// ListDomains implements VirtualisationService.
func (s *Service) ListDomains(ctx context.Context, req *hypervisorv1.ListDomainsRequest) (*hypervisorv1.ListDomainsResponse, error) {
	domains, err := s.Driver.ListDomains(ctx)
	if err != nil {
		return nil, err
	}
	all := make([]*hypervisorv1.Domain, len(domains))
	known := make(map[string]bool, len(domains))
	for i, d := range domains {
		all[i] = describeDomain(d, s.vm(d.UUID))
		known[d.UUID] = true
	}
	for _, info := range s.VMs.List() {
		if !known[info.GetUuid()] {
			all = append(all, describeDomain(unstarted(info), s.vm(info.GetUuid())))
		}
	}
	slices.SortFunc(all, func(a, b *hypervisorv1.Domain) int {
		return cmp.Or(strings.Compare(a.GetName(), b.GetName()), strings.Compare(a.GetUuid(), b.GetUuid()))
	})
	all, next, err := page.Cut(all, req.GetPageSize(), req.GetPageToken(), (*hypervisorv1.Domain).GetUuid)
	if err != nil {
		return nil, err
	}
	return &hypervisorv1.ListDomainsResponse{Domains: all, NextPageToken: next}, nil
}

// GetDomain implements VirtualisationService.
func (s *Service) GetDomain(ctx context.Context, req *hypervisorv1.GetDomainRequest) (*hypervisorv1.GetDomainResponse, error) {
	dom, record, err := s.find(ctx, req.GetDomain())
	if err != nil {
		return nil, err
	}
	return &hypervisorv1.GetDomainResponse{Domain: describeDomain(dom, record)}, nil
}

func describeDomain(d hypervisor.Domain, record *hypervisorv1.LocalVmInfo) *hypervisorv1.Domain {
	m := &hypervisorv1.Domain{
		Id: d.ID, Name: d.Name, Uuid: d.UUID, State: stateOf(d.State), Cpus: d.CPUs, MemoryBytes: d.MemoryBytes, Autostart: d.Autostart,
		Persistent: d.Persistent,
	}
	if info := record.GetVmInfo(); info != nil {
		m.Managed, m.VmHostname, m.VmIpAddress = true, info.GetHostname(), info.GetAddress().GetIpAddress()
	}
	return m
}

func stateOf(s hypervisor.State) hypervisorv1.DomainState {
	switch s {
	case hypervisor.Off:
		return hypervisorv1.DomainState_DOMAIN_STATE_OFF
	case hypervisor.Running:
		return hypervisorv1.DomainState_DOMAIN_STATE_RUNNING
	case hypervisor.Paused:
		return hypervisorv1.DomainState_DOMAIN_STATE_PAUSED
	case hypervisor.Stopping:
		return hypervisorv1.DomainState_DOMAIN_STATE_STOPPING
	case hypervisor.Crashed:
		return hypervisorv1.DomainState_DOMAIN_STATE_CRASHED
	default:
		return hypervisorv1.DomainState_DOMAIN_STATE_UNSPECIFIED
	}
}

// act changes what a domain does: a VM by its own operation, any other by the driver. It returns how the domain is afterwards.
func (s *Service) act(ctx context.Context, ref string, ofVM, ofDomain func(ctx context.Context, uuid string) error) (*hypervisorv1.Domain, error) {
	dom, record, err := s.find(ctx, ref)
	if err != nil {
		return nil, err
	}
	if record != nil {
		err = ofVM(ctx, dom.UUID)
	} else {
		err = ofDomain(ctx, dom.UUID)
	}
	if err != nil {
		return nil, err
	}
	after, err := s.Driver.FindDomain(ctx, dom.UUID)
	switch {
	case err == nil:
		dom = after
	case fault.Is(err, fault.NotFound): // it went with its run, or its VM was not started
		dom.ID, dom.State = 0, hypervisor.Off
	default:
		return nil, err
	}
	return describeDomain(dom, record), nil
}

func (s *Service) startVM(ctx context.Context, uuid string) error {
	_, err := s.Operations.StartVm(ctx, &hypervisorv1.StartVmRequest{Vm: uuid})
	return err
}

func (s *Service) stopVM(ctx context.Context, uuid string) error {
	_, err := s.Operations.StopVm(ctx, &hypervisorv1.StopVmRequest{Vm: uuid})
	return err
}

func (s *Service) rebootVM(ctx context.Context, uuid string) error {
	_, err := s.Operations.RebootVm(ctx, &hypervisorv1.RebootVmRequest{Vm: uuid})
	return err
}

// StartDomain implements VirtualisationService.
func (s *Service) StartDomain(ctx context.Context, req *hypervisorv1.StartDomainRequest) (*hypervisorv1.StartDomainResponse, error) {
	dom, err := s.act(ctx, req.GetDomain(), s.startVM, s.Driver.StartDomain)
	if err != nil {
		return nil, err
	}
	return &hypervisorv1.StartDomainResponse{Domain: dom}, nil
}

// ShutdownDomain implements VirtualisationService.
func (s *Service) ShutdownDomain(ctx context.Context, req *hypervisorv1.ShutdownDomainRequest) (*hypervisorv1.ShutdownDomainResponse, error) {
	dom, err := s.act(ctx, req.GetDomain(), s.stopVM, s.Driver.Shutdown)
	if err != nil {
		return nil, err
	}
	return &hypervisorv1.ShutdownDomainResponse{Domain: dom}, nil
}

// KillDomain implements VirtualisationService.
func (s *Service) KillDomain(ctx context.Context, req *hypervisorv1.KillDomainRequest) (*hypervisorv1.KillDomainResponse, error) {
	dom, err := s.act(ctx, req.GetDomain(), s.stopVM, s.Driver.Kill)
	if err != nil {
		return nil, err
	}
	return &hypervisorv1.KillDomainResponse{Domain: dom}, nil
}

// RebootDomain implements VirtualisationService.
func (s *Service) RebootDomain(ctx context.Context, req *hypervisorv1.RebootDomainRequest) (*hypervisorv1.RebootDomainResponse, error) {
	dom, err := s.act(ctx, req.GetDomain(), s.rebootVM, s.Driver.Reboot)
	if err != nil {
		return nil, err
	}
	return &hypervisorv1.RebootDomainResponse{Domain: dom}, nil
}

// noPause is what to do instead of pausing a VM.
const noPause = "its VM has no paused state: use StopVm and StartVm"

// PauseDomain implements VirtualisationService.
func (s *Service) PauseDomain(ctx context.Context, req *hypervisorv1.PauseDomainRequest) (*hypervisorv1.PauseDomainResponse, error) {
	if _, err := s.unmanaged(ctx, req.GetDomain(), "paused", noPause); err != nil {
		return nil, err
	}
	dom, err := s.act(ctx, req.GetDomain(), s.Driver.Pause, s.Driver.Pause)
	if err != nil {
		return nil, err
	}
	return &hypervisorv1.PauseDomainResponse{Domain: dom}, nil
}

// ResumeDomain implements VirtualisationService.
func (s *Service) ResumeDomain(ctx context.Context, req *hypervisorv1.ResumeDomainRequest) (*hypervisorv1.ResumeDomainResponse, error) {
	if _, err := s.unmanaged(ctx, req.GetDomain(), "resumed", noPause); err != nil {
		return nil, err
	}
	dom, err := s.act(ctx, req.GetDomain(), s.Driver.Unpause, s.Driver.Unpause)
	if err != nil {
		return nil, err
	}
	return &hypervisorv1.ResumeDomainResponse{Domain: dom}, nil
}
