package network

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/page"
	"github.com/hyperplane-project/hyperplane/internal/principal"
	"github.com/hyperplane-project/hyperplane/server/feed"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// Service is the NetworkService and the giver of addresses. Methods that are not built answer UNIMPLEMENTED.
type Service struct {
	hypervisorv1.UnimplementedNetworkServiceServer
	driver hypervisor.Driver
	feed   *feed.Feed

	mu      sync.Mutex
	subnets []*pool
	made    map[string]bool // networks that the driver has made in this run
	sync    sync.Mutex      // one change of the DHCP server at a time
}

var _ hypervisorv1.NetworkServiceServer = (*Service)(nil)

// New makes the service for the subnets of the configuration.
func New(driver hypervisor.Driver, f *feed.Feed, subnets []Subnet) (*Service, error) {
	s := &Service{driver: driver, feed: f, made: make(map[string]bool)}
	for _, n := range subnets {
		if err := n.Validate(); err != nil {
			return nil, err
		}
		for _, other := range s.subnets {
			if other.ID == n.ID || other.Bridge == n.Bridge || other.Gateway.Masked().Overlaps(n.Gateway.Masked()) {
				return nil, fault.New(fault.InvalidArgument, "subnet %q: has the id, bridge or addresses of subnet %q", n.ID, other.ID)
			}
		}
		s.subnets = append(s.subnets, &pool{Subnet: n, used: make(map[netip.Addr]lease)})
	}
	s.publish()
	return s, nil
}

// Restore marks the addresses of VMs that were there before the start as in use.
func (s *Service) Restore(vms []*hypervisorv1.VmInfo) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, vm := range vms {
		for i, a := range append([]*hypervisorv1.Address{vm.GetAddress()}, vm.GetSecondaryAddresses()...) {
			ip, err := netip.ParseAddr(a.GetIpAddress())
			if p := s.find(subnetOf(vm, i)); err == nil && p != nil {
				p.used[ip] = lease{vm.GetUuid(), vm.GetHostname(), a.GetMacAddress()}
			}
		}
	}
	s.publishLocked()
}

func subnetOf(vm *hypervisorv1.VmInfo, nic int) string {
	if nic == 0 || nic > len(vm.GetSecondarySubnetIds()) {
		return vm.GetSubnetId()
	}
	return vm.GetSecondarySubnetIds()[nic-1]
}

// Request is the wish for an address.
type Request struct {
	UUID, Hostname string
	// SubnetID is the subnet; empty = the only one there is.
	SubnetID string
	// Want may hold an IP address, a MAC address, both or nothing.
	Want   *hypervisorv1.Address
	Caller principal.Caller
}

// Allocate gives a VM an address and returns it with the subnet's id.
func (s *Service) Allocate(req Request) (*hypervisorv1.Address, string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.choose(req.SubnetID)
	if err != nil {
		return nil, "", err
	}
	if restricted := len(p.AllowedUsers)+len(p.AllowedGroups) > 0; restricted && !req.Caller.Power &&
		!req.Caller.OwnsAny(p.AllowedUsers, p.AllowedGroups) {
		return nil, "", fault.New(fault.PermissionDenied, "subnet %q: %s may not create VMs in it", p.ID, req.Caller.Name)
	}
	want, mac, err := parseWant(req.Want)
	if err != nil {
		return nil, "", err
	}
	if other, taken := s.macInUse(mac); taken {
		return nil, "", fault.New(fault.AlreadyExists, "MAC address %s: in use by VM %s", mac, other)
	}
	ip, err := p.take(want, lease{req.UUID, req.Hostname, mac})
	if err != nil {
		return nil, "", err
	}
	if mac == "" {
		mac = macOf(ip)
		p.used[ip] = lease{req.UUID, req.Hostname, mac}
	}
	s.publishLocked()
	return &hypervisorv1.Address{IpAddress: ip.String(), MacAddress: mac}, p.ID, nil
}

func parseWant(want *hypervisorv1.Address) (ip netip.Addr, mac string, err error) {
	if text := want.GetIpAddress(); text != "" {
		if ip, err = netip.ParseAddr(text); err != nil {
			return ip, "", fault.New(fault.InvalidArgument, "address %q: not an IP address", text)
		}
		ip = ip.Unmap()
	}
	if text := want.GetMacAddress(); text != "" {
		hw, err := net.ParseMAC(text)
		if err != nil || len(hw) != 6 || hw[0]&1 != 0 {
			return ip, "", fault.New(fault.InvalidArgument, "MAC address %q: not the address of one card (six bytes, first one even)", text)
		}
		mac = hw.String()
	}
	return ip, mac, nil
}

func (s *Service) macInUse(mac string) (uuid string, taken bool) {
	if mac == "" {
		return "", false
	}
	for _, p := range s.subnets {
		for _, l := range p.used {
			if l.mac == mac {
				return l.uuid, true
			}
		}
	}
	return "", false
}

// Release takes back all addresses of a VM.
func (s *Service) Release(uuid string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.subnets {
		for a, l := range p.used {
			if l.uuid == uuid {
				delete(p.used, a)
			}
		}
	}
	s.publishLocked()
}

// Attach makes the subnet ready for a network card and returns how the card connects to it. The subnet's DHCP server then knows all
// addresses in use.
func (s *Service) Attach(ctx context.Context, subnetID string) (hypervisor.NIC, error) {
	s.sync.Lock()
	defer s.sync.Unlock()
	s.mu.Lock()
	p, err := s.choose(subnetID)
	if err != nil {
		s.mu.Unlock()
		return hypervisor.NIC{}, err
	}
	leases, made := p.leases(), s.made[p.ID]
	s.mu.Unlock()
	if p.Existing {
		return hypervisor.NIC{Bridge: p.Bridge}, nil
	}
	nic := hypervisor.NIC{Network: "hyperplane-" + p.ID}
	if !made {
		err := s.driver.EnsureNetwork(ctx, hypervisor.Network{
			Name: nic.Network, Bridge: p.Bridge, Gateway: p.Gateway, Domain: p.Domain, DNS: p.DNS, Isolated: p.Isolated,
		})
		if err != nil {
			return nic, fault.Wrap(err, "subnet %q", p.ID)
		}
		s.mu.Lock()
		s.made[p.ID] = true
		s.mu.Unlock()
	}
	return nic, fault.Wrap(s.driver.SetLeases(ctx, nic.Network, leases), "subnet %q: DHCP leases", p.ID)
}

// ListSubnets implements NetworkService.
func (s *Service) ListSubnets(_ context.Context, req *hypervisorv1.ListSubnetsRequest) (*hypervisorv1.ListSubnetsResponse, error) {
	s.mu.Lock()
	all := s.describe()
	s.mu.Unlock()
	if req.GetSort() {
		slices.SortFunc(all, func(a, b *hypervisorv1.Subnet) int { return strings.Compare(a.GetId(), b.GetId()) })
	}
	all, next, err := page.Cut(all, req.GetPageSize(), req.GetPageToken(), (*hypervisorv1.Subnet).GetId)
	if err != nil {
		return nil, err
	}
	return &hypervisorv1.ListSubnetsResponse{Subnets: all, NextPageToken: next}, nil
}

// find returns a subnet or nil. The caller holds mu.
func (s *Service) find(id string) *pool {
	for _, p := range s.subnets {
		if p.ID == id {
			return p
		}
	}
	return nil
}

// choose returns the subnet, or the only one if the id is empty. The caller holds mu.
func (s *Service) choose(id string) (*pool, error) {
	if id == "" && len(s.subnets) == 1 {
		return s.subnets[0], nil
	}
	if p := s.find(id); p != nil {
		return p, nil
	}
	known := make([]string, 0, len(s.subnets))
	for _, p := range s.subnets {
		known = append(known, p.ID)
	}
	if id == "" {
		return nil, fault.New(fault.InvalidArgument, "subnet_id: is empty; choose one of: %s", strings.Join(known, ", "))
	}
	return nil, fault.New(fault.NotFound, "subnet %q: no such subnet; there are: %s", id, strings.Join(known, ", "))
}

func (s *Service) publish() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.feed.SetSubnets(&hypervisorv1.SubnetList{Subnets: s.describe()})
	s.publishLocked()
}

// publishLocked tells the watchers of the addresses. The caller holds mu.
func (s *Service) publishLocked() {
	all := &hypervisorv1.AddressPool{NumFreeAddresses: make(map[string]uint32)}
	for _, p := range s.subnets {
		all.NumFreeAddresses[p.ID] = uint32(p.free())
		for a, l := range p.used {
			all.Addresses = append(all.Addresses, &hypervisorv1.Address{IpAddress: a.String(), MacAddress: l.mac})
		}
		for a := range p.candidates() {
			all.Addresses = append(all.Addresses, &hypervisorv1.Address{IpAddress: a.String(), MacAddress: macOf(a)})
		}
	}
	slices.SortFunc(all.GetAddresses(), func(a, b *hypervisorv1.Address) int { return strings.Compare(a.GetIpAddress(), b.GetIpAddress()) })
	s.feed.SetAddressPool(all)
}

// describe returns the subnets as the API shows them. The caller holds mu.
func (s *Service) describe() []*hypervisorv1.Subnet {
	all := make([]*hypervisorv1.Subnet, 0, len(s.subnets))
	for _, p := range s.subnets {
		n := &hypervisorv1.Subnet{
			Id: p.ID, IpGateway: p.Gateway.Addr().String(), IpMask: net.IP(net.CIDRMask(p.Gateway.Bits(), 32)).String(),
			DomainName: p.Domain, Manage: !p.Existing, AllowedUsers: p.AllowedUsers, AllowedGroups: p.AllowedGroups, DisableMetadata: true,
		}
		for _, d := range p.DNS {
			n.DomainNameServers = append(n.DomainNameServers, d.String())
		}
		all = append(all, n)
	}
	return all
}
