package virtualisation

import (
	"context"
	"net/netip"
	"slices"
	"strings"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/page"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// subnetPrefix begins the names of the networks that server/network makes, one for each subnet, followed by the subnet's id.
const subnetPrefix = "hyperplane-"

// ListVirtualNetworks implements VirtualisationService.
func (s *Service) ListVirtualNetworks(
	ctx context.Context, req *hypervisorv1.ListVirtualNetworksRequest,
) (*hypervisorv1.ListVirtualNetworksResponse, error) {
	networks, err := s.Driver.ListNetworks(ctx)
	if err != nil {
		return nil, err
	}
	all := make([]*hypervisorv1.VirtualNetwork, len(networks))
	for i, n := range networks {
		all[i] = describeNetwork(n)
	}
	all, next, err := page.Cut(all, req.GetPageSize(), req.GetPageToken(), (*hypervisorv1.VirtualNetwork).GetName)
	if err != nil {
		return nil, err
	}
	return &hypervisorv1.ListVirtualNetworksResponse{Networks: all, NextPageToken: next}, nil
}

func describeNetwork(n hypervisor.VirtualNetwork) *hypervisorv1.VirtualNetwork {
	m := &hypervisorv1.VirtualNetwork{
		Name: n.Name, Uuid: n.UUID, Bridge: n.Bridge, ForwardMode: hypervisorv1.ForwardMode(n.Forward) + 1, // the schema counts from unspecified
		Active: n.Active, Persistent: n.Persistent, Autostart: n.Autostart,
	}
	for _, a := range n.Addresses {
		m.Addresses = append(m.Addresses, a.String())
	}
	for _, r := range n.Ranges {
		m.DhcpRanges = append(m.DhcpRanges, &hypervisorv1.AddressRange{Start: r.Start.String(), End: r.End.String()})
	}
	if id, ok := strings.CutPrefix(n.Name, subnetPrefix); ok {
		m.SubnetId = id
	}
	return m
}

func (s *Service) network(ctx context.Context, name string) (hypervisor.VirtualNetwork, error) {
	if name == "" {
		return hypervisor.VirtualNetwork{}, fault.New(fault.InvalidArgument, "network: is empty; give the network's name")
	}
	return s.Driver.GetNetwork(ctx, name)
}

// GetVirtualNetwork implements VirtualisationService.
func (s *Service) GetVirtualNetwork(ctx context.Context, req *hypervisorv1.GetVirtualNetworkRequest) (*hypervisorv1.GetVirtualNetworkResponse, error) {
	n, err := s.network(ctx, req.GetNetwork())
	if err != nil {
		return nil, err
	}
	return &hypervisorv1.GetVirtualNetworkResponse{Network: describeNetwork(n)}, nil
}

// CreateVirtualNetwork implements VirtualisationService.
func (s *Service) CreateVirtualNetwork(
	ctx context.Context, req *hypervisorv1.CreateVirtualNetworkRequest,
) (*hypervisorv1.CreateVirtualNetworkResponse, error) {
	spec, err := parseNetwork(req)
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(spec.Name, subnetPrefix) {
		return nil, fault.New(fault.FailedPrecondition, "name: %q is for the networks of subnets; make a subnet by UpdateSubnets, or take another name", spec.Name)
	}
	if spec.Forward != hypervisor.ForwardBridge && spec.Bridge != "" && slices.Contains(s.Bridges(), spec.Bridge) {
		return nil, fault.New(fault.AlreadyExists, "bridge: %s belongs to a subnet; take another one", spec.Bridge)
	}
	if err := s.Driver.CreateNetwork(ctx, spec); err != nil {
		return nil, err
	}
	n, err := s.network(ctx, spec.Name)
	if err != nil {
		return nil, err
	}
	return &hypervisorv1.CreateVirtualNetworkResponse{Network: describeNetwork(n)}, nil
}

func parseNetwork(req *hypervisorv1.CreateVirtualNetworkRequest) (spec hypervisor.VirtualNetworkSpec, err error) {
	spec = hypervisor.VirtualNetworkSpec{Name: req.GetName(), Bridge: req.GetBridge(), Forward: hypervisor.ForwardNAT, Autostart: !req.GetNoAutostart()}
	if mode := req.GetForwardMode(); mode != hypervisorv1.ForwardMode_FORWARD_MODE_UNSPECIFIED {
		if _, known := hypervisorv1.ForwardMode_name[int32(mode)]; !known {
			return spec, fault.New(fault.InvalidArgument, "forward_mode: %d is unknown", mode)
		}
		spec.Forward = hypervisor.ForwardMode(mode - 1)
	}
	if req.GetSubnet() != "" {
		if spec.Gateway, err = netip.ParsePrefix(req.GetSubnet()); err != nil {
			return spec, fault.New(fault.InvalidArgument, "subnet: %q is not an address with a prefix length, like 192.0.2.1/24", req.GetSubnet())
		}
		if spec.Gateway.Addr() == spec.Gateway.Masked().Addr() {
			spec.Gateway = netip.PrefixFrom(spec.Gateway.Addr().Next(), spec.Gateway.Bits())
		}
	}
	for _, end := range []struct {
		field, text string
		into        *netip.Addr
	}{{"dhcp_start", req.GetDhcpStart(), &spec.DHCP.Start}, {"dhcp_end", req.GetDhcpEnd(), &spec.DHCP.End}} {
		if end.text == "" {
			continue
		}
		if *end.into, err = netip.ParseAddr(end.text); err != nil {
			return spec, fault.New(fault.InvalidArgument, "%s: %q is not an IP address", end.field, end.text)
		}
	}
	return spec, spec.Check()
}

// foreign returns a network that no subnet has.
func (s *Service) foreign(ctx context.Context, name string) (hypervisor.VirtualNetwork, error) {
	n, err := s.network(ctx, name)
	if err != nil {
		return n, err
	}
	if strings.HasPrefix(name, subnetPrefix) || n.Forward != hypervisor.ForwardBridge && n.Bridge != "" && slices.Contains(s.Bridges(), n.Bridge) {
		return n, fault.New(fault.FailedPrecondition, "network %q belongs to a subnet of this hypervisor and cannot be changed here; use UpdateSubnets", name)
	}
	return n, nil
}

// StartVirtualNetwork implements VirtualisationService.
func (s *Service) StartVirtualNetwork(
	ctx context.Context, req *hypervisorv1.StartVirtualNetworkRequest,
) (*hypervisorv1.StartVirtualNetworkResponse, error) {
	n, err := s.onNetwork(ctx, req.GetNetwork(), s.Driver.StartNetwork)
	if err != nil {
		return nil, err
	}
	return &hypervisorv1.StartVirtualNetworkResponse{Network: n}, nil
}

// StopVirtualNetwork implements VirtualisationService.
func (s *Service) StopVirtualNetwork(
	ctx context.Context, req *hypervisorv1.StopVirtualNetworkRequest,
) (*hypervisorv1.StopVirtualNetworkResponse, error) {
	n, err := s.onNetwork(ctx, req.GetNetwork(), s.Driver.StopNetwork)
	if err != nil {
		return nil, err
	}
	return &hypervisorv1.StopVirtualNetworkResponse{Network: n}, nil
}

// onNetwork changes a network and returns how it is afterwards. One that is not persistent may have gone then.
func (s *Service) onNetwork(ctx context.Context, name string, change func(ctx context.Context, name string) error) (*hypervisorv1.VirtualNetwork, error) {
	n, err := s.foreign(ctx, name)
	if err != nil {
		return nil, err
	}
	if err := change(ctx, name); err != nil {
		return nil, err
	}
	after, err := s.network(ctx, name)
	if fault.Is(err, fault.NotFound) && !n.Persistent {
		after, err = n, nil
		after.Active = false
	}
	if err != nil {
		return nil, err
	}
	return describeNetwork(after), nil
}

// DeleteVirtualNetwork implements VirtualisationService.
func (s *Service) DeleteVirtualNetwork(
	ctx context.Context, req *hypervisorv1.DeleteVirtualNetworkRequest,
) (*hypervisorv1.DeleteVirtualNetworkResponse, error) {
	if _, err := s.foreign(ctx, req.GetNetwork()); err != nil {
		return nil, err
	}
	if err := s.Driver.DeleteNetwork(ctx, req.GetNetwork()); err != nil {
		return nil, err
	}
	return &hypervisorv1.DeleteVirtualNetworkResponse{}, nil
}
