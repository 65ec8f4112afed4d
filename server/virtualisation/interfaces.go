package virtualisation

import (
	"context"
	"net"
	"strconv"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/page"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// noCards is what to do instead of changing a VM's network cards.
const noCards = "use ChangeVmSubnet to move its card"

// ListDomainInterfaces implements VirtualisationService.
func (s *Service) ListDomainInterfaces(
	ctx context.Context, req *hypervisorv1.ListDomainInterfacesRequest,
) (*hypervisorv1.ListDomainInterfacesResponse, error) {
	dom, record, err := s.find(ctx, req.GetDomain())
	if err != nil {
		return nil, err
	}
	found, err := s.Driver.ListInterfaces(ctx, dom.UUID)
	if err != nil {
		return nil, ofVM(record, err)
	}
	type numbered struct {
		*hypervisorv1.DomainInterface
		key string
	}
	all := make([]numbered, len(found))
	for i, nic := range found {
		all[i] = numbered{describeInterface(nic), strconv.Itoa(i) + nic.MAC}
	}
	cut, next, err := page.Cut(all, req.GetPageSize(), req.GetPageToken(), func(n numbered) string { return n.key })
	if err != nil {
		return nil, err
	}
	res := &hypervisorv1.ListDomainInterfacesResponse{NextPageToken: next}
	for _, n := range cut {
		res.Interfaces = append(res.Interfaces, n.DomainInterface)
	}
	return res, nil
}

func describeInterface(i hypervisor.DomainInterface) *hypervisorv1.DomainInterface {
	return &hypervisorv1.DomainInterface{MacAddress: i.MAC, Network: i.Network, Bridge: i.Bridge, Model: i.Model, Device: i.Device, Type: i.Type}
}

// AttachDomainInterface implements VirtualisationService.
func (s *Service) AttachDomainInterface(
	ctx context.Context, req *hypervisorv1.AttachDomainInterfaceRequest,
) (*hypervisorv1.AttachDomainInterfaceResponse, error) {
	nic, err := s.newNIC(req)
	if err != nil {
		return nil, err
	}
	dom, err := s.unmanaged(ctx, req.GetDomain(), "given network cards", noCards)
	if err != nil {
		return nil, err
	}
	if nic.Network != "" {
		if _, err := s.Driver.GetNetwork(ctx, nic.Network); err != nil {
			return nil, fault.Wrap(err, "domain %q", dom.Name)
		}
	}
	if err := s.Driver.AttachInterface(ctx, dom.UUID, nic); err != nil {
		return nil, err
	}
	made := hypervisor.DomainInterface{MAC: nic.MAC, Network: nic.Network, Bridge: nic.Bridge, Model: nic.Model}
	all, err := s.Driver.ListInterfaces(ctx, dom.UUID)
	if err != nil {
		return nil, fault.Wrap(err, "the network card %s was attached", nic.MAC)
	}
	for _, one := range all {
		if one.MAC == nic.MAC {
			made = one
		}
	}
	return &hypervisorv1.AttachDomainInterfaceResponse{Interface: describeInterface(made)}, nil
}

func (s *Service) newNIC(req *hypervisorv1.AttachDomainInterfaceRequest) (hypervisor.NIC, error) {
	nic := hypervisor.NIC{Network: req.GetNetwork(), Bridge: req.GetBridge(), Model: req.GetModel()}
	if (nic.Network == "") == (nic.Bridge == "") {
		return nic, fault.New(fault.InvalidArgument, "network: name a network or a bridge, one of them")
	}
	switch nic.Model {
	case "":
		nic.Model = "virtio"
	case "virtio", "e1000", "e1000e", "rtl8139":
	default:
		return nic, fault.New(fault.InvalidArgument, "model: %q is not virtio, e1000, e1000e or rtl8139", nic.Model)
	}
	if req.GetMacAddress() == "" {
		nic.MAC = s.NewMAC()
		return nic, nil
	}
	mac, err := parseMAC(req.GetMacAddress())
	nic.MAC = mac
	return nic, err
}

// parseMAC returns the usual form of an address that one card can have.
func parseMAC(text string) (string, error) {
	mac, err := net.ParseMAC(text)
	if err != nil || len(mac) != 6 || mac[0]&1 != 0 {
		return "", fault.New(fault.InvalidArgument, "mac_address: %q is not the address of a network card, like 52:54:00:12:34:56", text)
	}
	return mac.String(), nil
}

// DetachDomainInterface implements VirtualisationService.
func (s *Service) DetachDomainInterface(
	ctx context.Context, req *hypervisorv1.DetachDomainInterfaceRequest,
) (*hypervisorv1.DetachDomainInterfaceResponse, error) {
	mac, err := parseMAC(req.GetMacAddress())
	if err != nil {
		return nil, err
	}
	dom, err := s.unmanaged(ctx, req.GetDomain(), "separated from network cards", noCards)
	if err != nil {
		return nil, err
	}
	if err := s.Driver.DetachInterface(ctx, dom.UUID, mac); err != nil {
		return nil, err
	}
	return &hypervisorv1.DetachDomainInterfaceResponse{}, nil
}
