package network

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/page"
	"github.com/hyperplane-project/hyperplane/server/feed"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
	"github.com/hyperplane-project/hyperplane/server/netplane"
	"github.com/hyperplane-project/hyperplane/server/store"
)

// Plane serves subnets on bridges of this host.
type Plane interface {
	// Serve begins to serve a subnet on its bridge, or goes on with a changed one.
	Serve(ctx context.Context, s netplane.Subnet) error
	// Stop ends it; an unknown one is no error.
	Stop(ctx context.Context, id string) error
	// Offer serves files by TFTP to one client of a served subnet until withdraw is called.
	Offer(ctx context.Context, id string, client netip.Addr, files map[string][]byte) (withdraw func(), err error)
	Close(ctx context.Context)
}

// sharer is a driver that knows whether its bridges are in this process's network.
type sharer interface {
	SharesNetwork(ctx context.Context) (bool, error)
}

// Deps are the collaborators of the service.
type Deps struct {
	Log    *slog.Logger
	Driver hypervisor.Driver
	Feed   *feed.Feed
	// Store keeps what the API changes; nil = nothing survives a restart.
	Store store.Store
	// Plane is nil where only the virtualiser's DHCP server is to be used.
	Plane Plane
	// Alive says whether a VM has, or is about to have, a machine that is on its network; nil = all have.
	Alive func(uuid string) bool
	// GivenBridges are the existing bridges that subnets of the API are on, by their ids. The VLAN of such a subnet is that of the bridge already.
	GivenBridges map[string]string
	// Uplink says that the host has an interface that carries VLANs.
	Uplink bool
	Now    func() time.Time
}

// Service is the NetworkService and the giver of addresses.
type Service struct {
	hypervisorv1.UnimplementedNetworkServiceServer
	Deps

	mu       sync.Mutex
	subnets  []*pool
	made     map[string]bool // networks that the driver has made in this run
	order    uint64
	silent   map[string]bool // UUIDs of VMs that get no lease
	awaited  map[string]map[chan struct{}]struct{}
	external map[*externals]struct{}
	// registered are the external leases of RegisterExternalLeases.
	registered *externals
	boots      map[string]*boot // network boots by MAC address
	// shares says whether the virtualiser's bridges are in our network; nil = not known yet.
	shares *bool

	sync sync.Mutex // one change of networks and DHCP servers at a time
}

var _ hypervisorv1.NetworkServiceServer = (*Service)(nil)

// New makes a service of which the virtualiser serves the subnets, and that forgets what the API changes.
func New(driver hypervisor.Driver, f *feed.Feed, subnets []Subnet) (*Service, error) {
	return Open(context.Background(), Deps{Log: slog.New(slog.DiscardHandler), Driver: driver, Feed: f, Now: time.Now}, subnets) //nolint:forbidigo // nothing in it waits
}

// Open makes the service for the subnets of the configuration, changed as the API has changed them since.
func Open(ctx context.Context, d Deps, subnets []Subnet) (*Service, error) {
	s := &Service{
		Deps: d, made: make(map[string]bool), silent: make(map[string]bool), awaited: make(map[string]map[chan struct{}]struct{}),
		external: make(map[*externals]struct{}), boots: make(map[string]*boot),
	}
	for _, n := range subnets {
		s.subnets = append(s.subnets, newPool(n))
	}
	if err := s.load(ctx); err != nil {
		return nil, err
	}
	for _, p := range s.subnets {
		if err := p.Validate(); err != nil {
			return nil, err
		}
		if p.DHCP == byPlane && d.Plane == nil {
			return nil, fault.New(fault.InvalidArgument, "subnet %q: dhcp %s: this host has no network plane", p.ID, p.DHCP)
		}
	}
	if err := checkTogether(s.subnets); err != nil {
		return nil, err
	}
	if _, ok := d.Driver.(sharer); !ok || d.Plane == nil {
		s.shares = new(bool)
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
				s.order++
				l := lease{uuid: vm.GetUuid(), hostname: vm.GetHostname(), mac: strings.ToLower(a.GetMacAddress()), primary: i == 0, order: s.order}
				l.six, _ = netip.ParseAddr(a.GetIpv6Address()) // empty = none; what the VM was created with was checked then
				if old, had := p.used[ip]; had {
					l.order = old.order
				}
				p.used[ip] = l
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

// Bridges returns the names of the subnets' bridges.
func (s *Service) Bridges() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]string, len(s.subnets))
	for i, p := range s.subnets {
		all[i] = p.Bridge
	}
	return all
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

// of returns the subnet that an address is in, or nil. The caller holds mu.
func (s *Service) of(a netip.Addr) *pool {
	for _, p := range s.subnets {
		if p.Gateway.Masked().Contains(a) {
			return p
		}
	}
	return nil
}

// choose returns the subnet; if the id is empty, the one in which the wanted address is, or the only one. The caller holds mu.
func (s *Service) choose(id string, want netip.Addr) (*pool, error) {
	if id == "" && len(s.subnets) == 1 {
		return s.subnets[0], nil
	}
	if id == "" && want.IsValid() {
		if p := s.of(want); p != nil {
			return p, nil
		}
		return nil, fault.New(fault.InvalidArgument, "ip_address: %s is in none of the subnets", want)
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
	s.Feed.SetSubnets(&hypervisorv1.SubnetList{Subnets: s.describe()})
	s.publishLocked()
}

// publishLocked tells the watchers of the addresses. The caller holds mu. The list is made only if somebody looks, of what is true then.
func (s *Service) publishLocked() {
	s.Feed.SetAddressPool(s.addressPool)
}

func (s *Service) addressPool() *hypervisorv1.AddressPool {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := &hypervisorv1.AddressPool{NumFreeAddresses: make(map[string]uint32)}
	for _, p := range s.subnets {
		all.NumFreeAddresses[p.ID] = uint32(p.free())
		for a, l := range p.used {
			all.Addresses = append(all.Addresses, &hypervisorv1.Address{IpAddress: a.String(), MacAddress: l.mac, Ipv6Address: text(l.six)})
		}
		for a := range p.candidates() {
			all.Addresses = append(all.Addresses, &hypervisorv1.Address{IpAddress: a.String(), MacAddress: p.mac(a)})
		}
	}
	slices.SortFunc(all.GetAddresses(), func(a, b *hypervisorv1.Address) int { return strings.Compare(a.GetIpAddress(), b.GetIpAddress()) })
	return all
}
