package network

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/insomniacslk/dhcp/iana"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/netplane/dhcp"
)

const (
	// defaultBootTime is how long a machine is waited for, offered its address and served its files.
	defaultBootTime = time.Minute
	maxBootTime     = 24 * time.Hour
)

// boot is a machine that is to boot from the network.
type boot struct {
	subnet, hostname string
	address          netip.Addr
	files            map[string][]byte
	missing          uint32        // acknowledgements that are waited for
	done             chan struct{} // closed once there are none
}

func (b *boot) names() []string { return slices.Sorted(maps.Keys(b.files)) }

// acknowledged counts an acknowledgement. The caller holds the service's mu.
func (b *boot) acknowledged() {
	if b.missing == 0 {
		return
	}
	if b.missing--; b.missing == 0 {
		close(b.done)
	}
}

// NetbootMachine implements NetworkService. The machine may be a VM of this host.
func (s *Service) NetbootMachine(ctx context.Context, req *hypervisorv1.NetbootMachineRequest) (*hypervisorv1.NetbootMachineResponse, error) {
	mac, b, err := s.planBoot(req)
	if err != nil {
		return nil, err
	}
	times, err := bootTimes(req)
	if err != nil {
		return nil, err
	}
	if _, err := s.Attach(ctx, b.subnet); err != nil {
		return nil, err
	}
	withdraw, err := s.Plane.Offer(ctx, b.subnet, b.address, b.files)
	if err != nil {
		return nil, err
	}
	if err := s.offer(mac, b); err != nil {
		withdraw()
		return nil, err
	}
	if err := wait(ctx, b, times.wait); err != nil {
		withdraw()
		s.endBoot(mac, b)
		return nil, err
	}
	time.AfterFunc(times.files, withdraw)
	time.AfterFunc(times.offer, func() { s.endBoot(mac, b) })
	return &hypervisorv1.NetbootMachineResponse{}, nil
}

type times struct{ wait, files, offer time.Duration }

func bootTimes(req *hypervisorv1.NetbootMachineRequest) (t times, err error) {
	t = times{req.GetWaitTimeout().AsDuration(), req.GetFilesExpiration().AsDuration(), req.GetOfferExpiration().AsDuration()}
	for field, d := range map[string]*time.Duration{"wait_timeout": &t.wait, "files_expiration": &t.files, "offer_expiration": &t.offer} {
		if *d < 0 || *d > maxBootTime {
			return t, fault.New(fault.InvalidArgument, "%s: %v is not 0 to %v", field, *d, maxBootTime)
		}
		if *d == 0 {
			*d = defaultBootTime
		}
	}
	return t, nil
}

func wait(ctx context.Context, b *boot, patience time.Duration) error {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-b.done:
		return nil
	case <-timer.C:
		return fault.New(fault.DeadlineExceeded, "machine with address %s: has not taken its address as often as wished within %v", b.address, patience)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// planBoot checks what the request says of the machine.
func (s *Service) planBoot(req *hypervisorv1.NetbootMachineRequest) (mac string, b *boot, err error) {
	if six := req.GetAddress().GetIpv6Address(); six != "" {
		return "", nil, fault.New(fault.Unimplemented, "address: ipv6_address: %q: machines boot from the network over IPv4 only; leave it away", six)
	}
	ip, mac, err := parseWant(req.GetAddress())
	if err != nil {
		return "", nil, err
	}
	if !ip.IsValid() || mac == "" {
		return "", nil, fault.New(fault.InvalidArgument, "address: a machine that boots from the network needs an IP address and a MAC address")
	}
	files := make(map[string][]byte, len(req.GetFiles()))
	for name, content := range req.GetFiles() {
		files[trimName(name)] = content
	}
	b = &boot{address: ip, hostname: req.GetHostname(), files: files, missing: req.GetNumAcknowledgementsToWaitFor(), done: make(chan struct{})}
	if b.missing == 0 {
		close(b.done)
	}
	if len(files) > 0 && dhcp.BootFile(b.names(), nil, false) == "" && dhcp.BootFile(b.names(), efi(), false) == "" && dhcp.BootFile(b.names(), nil, true) == "" {
		return "", nil, fault.New(fault.InvalidArgument, "files: none is one that a machine's firmware boots, such as pxelinux.0, bootx64.efi or boot.ipxe; "+
			"there are: %q", b.names())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.bootSubnet(ip, req.GetSubnet())
	if err != nil {
		return "", nil, err
	}
	b.subnet = p.ID
	return mac, b, s.checkBoot(p, ip, mac)
}

// bootSubnet returns the subnet of the machine. The caller holds mu.
func (s *Service) bootSubnet(ip netip.Addr, wish *hypervisorv1.Subnet) (*pool, error) {
	p := s.of(ip)
	if wish != nil && (p == nil || (wish.GetId() != "" && wish.GetId() != p.ID)) {
		return nil, fault.New(fault.Unimplemented, "subnet: %q with address %s is none of this host's; add it with UpdateSubnets first", wish.GetId(), ip)
	}
	if p == nil {
		return nil, fault.New(fault.InvalidArgument, "address %s: is in no subnet of this host", ip)
	}
	if mode := s.mode(p); mode != byPlane {
		return nil, fault.New(fault.FailedPrecondition, "subnet %q: is not served by this daemon (dhcp: %s), so no machine can boot from it", p.ID, mode)
	}
	return p, nil
}

// checkBoot refuses an address that is somebody else's. The caller holds mu.
func (s *Service) checkBoot(p *pool, ip netip.Addr, mac string) error {
	if !isHost(p.Gateway, ip) {
		return fault.New(fault.InvalidArgument, "address %s: not an address for machines in subnet %q (%s)", ip, p.ID, p.Gateway.Masked())
	}
	for _, set := range []map[netip.Addr]lease{p.used, p.external} {
		if l, taken := set[ip]; taken && l.mac != mac {
			return fault.New(fault.AlreadyExists, "address %s: belongs to the card %s", ip, l.mac)
		}
	}
	for m, other := range s.boots {
		if other.address == ip || m == mac {
			return fault.New(fault.AlreadyExists, "machine with address %s and MAC address %s: is booting from the network already", other.address, m)
		}
	}
	return nil
}

// trimName takes the leading slashes away, which mean nothing in TFTP.
func trimName(name string) string { return strings.TrimLeft(name, "/") }

// efi is the architecture of most machines with UEFI.
func efi() []iana.Arch { return []iana.Arch{iana.EFI_X86_64} }

func (s *Service) offer(mac string, b *boot) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.find(b.subnet)
	if p == nil {
		return fault.New(fault.NotFound, "subnet %q: has just been deleted", b.subnet)
	}
	if err := s.checkBoot(p, b.address, mac); err != nil { // it may have changed meanwhile
		return err
	}
	s.boots[mac] = b
	return nil
}

func (s *Service) endBoot(mac string, b *boot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.boots[mac] == b {
		delete(s.boots, mac)
	}
}
