package vm

import (
	"context"
	"iter"
	"net/netip"
	"slices"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/page"
	"github.com/hyperplane-project/hyperplane/internal/prewire"
)

// GetVmInfo implements VmService.
func (s *Service) GetVmInfo(_ context.Context, req *hypervisorv1.GetVmInfoRequest) (*hypervisorv1.GetVmInfoResponse, error) {
	info, err := s.registry.Info(req.GetVm())
	if err != nil {
		return nil, err
	}
	return &hypervisorv1.GetVmInfoResponse{VmInfo: info}, nil
}

// GetVmInfos implements VmService.
func (s *Service) GetVmInfos(ctx context.Context, req *hypervisorv1.GetVmInfosRequest) (*hypervisorv1.GetVmInfosResponse, error) {
	all := s.matching(filter{req.GetIgnoreStateMask(), req.GetOwnerUsers(), req.GetOwnerGroups(), req.GetVmTagsToMatch()})
	if req.GetPageSize() == 0 && req.GetPageToken() == "" {
		return prewire.Reply(ctx, &all.full, func() *hypervisorv1.GetVmInfosResponse { return &hypervisorv1.GetVmInfosResponse{VmInfos: all.infos} }), nil
	}
	infos, next, err := page.Cut(all.infos, req.GetPageSize(), req.GetPageToken(), (*hypervisorv1.VmInfo).GetUuid)
	if err != nil {
		return nil, err
	}
	return &hypervisorv1.GetVmInfosResponse{VmInfos: infos, NextPageToken: next}, nil
}

// ListVMs implements VmService.
func (s *Service) ListVMs(ctx context.Context, req *hypervisorv1.ListVMsRequest) (*hypervisorv1.ListVMsResponse, error) {
	all := s.matching(filter{req.GetIgnoreStateMask(), req.GetOwnerUsers(), req.GetOwnerGroups(), req.GetVmTagsToMatch()})
	names, infos := &all.names, all.byCreation
	if req.GetSort() {
		names, infos = &all.sortedNames, all.byAddress
	}
	if req.GetPageSize() == 0 && req.GetPageToken() == "" {
		return prewire.Reply(ctx, names, func() *hypervisorv1.ListVMsResponse {
			return &hypervisorv1.ListVMsResponse{IpAddresses: primaryAddresses(infos())}
		}), nil
	}
	cut, next, err := page.Cut(infos(), req.GetPageSize(), req.GetPageToken(), (*hypervisorv1.VmInfo).GetUuid)
	if err != nil {
		return nil, err
	}
	return &hypervisorv1.ListVMsResponse{NextPageToken: next, IpAddresses: primaryAddresses(cut)}, nil
}

// filter is the filter of GetVmInfos and ListVMs.
type filter struct {
	ignoreStates  uint64
	users, groups []string
	tags          map[string]*hypervisorv1.TagValues
}

// matching returns the VMs that pass, in the order of their creation. Nobody may change the list.
func (s *Service) matching(f filter) *listing {
	all := s.registry.listing()
	if f.ignoreStates == 0 && len(f.users)+len(f.groups)+len(f.tags) == 0 {
		return all
	}
	return newListing(slices.DeleteFunc(slices.Clone(all.infos), func(info *hypervisorv1.VmInfo) bool { return !f.passes(info) }))
}

func (f filter) passes(info *hypervisorv1.VmInfo) bool {
	if bit := info.GetState() - 1; bit >= 0 && f.ignoreStates&(1<<bit) != 0 {
		return false
	}
	return overlap(f.users, info.GetOwnerUsers()) && overlap(f.groups, info.GetOwnerGroups()) && f.tagsPass(info.GetTags())
}

func (f filter) tagsPass(tags map[string]string) bool {
	for key, want := range f.tags {
		value, ok := tags[key]
		if !ok || (len(want.GetValues()) > 0 && !slices.Contains(want.GetValues(), value)) {
			return false
		}
	}
	return true
}

// overlap says whether one of the wanted is there; nothing wanted is satisfied by everything.
func overlap(wanted, have []string) bool {
	return len(wanted) == 0 || slices.ContainsFunc(wanted, func(w string) bool { return slices.Contains(have, w) })
}

func byAddress(a, b *hypervisorv1.VmInfo) int {
	return parseIP(a.GetAddress()).Compare(parseIP(b.GetAddress()))
}

func parseIP(a *hypervisorv1.Address) netip.Addr {
	ip, err := netip.ParseAddr(a.GetIpAddress())
	if err != nil {
		return netip.Addr{}
	}
	return ip.Unmap()
}

// addresses yields the valid IP addresses of a VM, those of IPv6 too.
func addresses(info *hypervisorv1.VmInfo) iter.Seq[netip.Addr] {
	return func(yield func(netip.Addr) bool) {
		for _, a := range append([]*hypervisorv1.Address{info.GetAddress()}, info.GetSecondaryAddresses()...) {
			if ip := parseIP(a); ip.IsValid() && !yield(ip) {
				return
			}
			if a.GetIpv6Address() == "" {
				continue
			}
			if six, err := netip.ParseAddr(a.GetIpv6Address()); err == nil && !yield(six) {
				return
			}
		}
	}
}
