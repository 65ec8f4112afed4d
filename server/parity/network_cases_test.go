package parity_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/server/config"
)

// withLoopbackSubnet adds a subnet of loopback addresses on the loopback interface, which the server really serves, files for network boots included. Each
// server has other addresses.
func withLoopbackSubnet(c *config.Config) {
	network := fmt.Sprintf("127.%d.%d.", 100+rand.IntN(100), rand.IntN(256))
	c.Subnets = append(c.Subnets, config.Subnet{
		ID: "lo", Bridge: "lo", Existing: true, DHCP: "hyperplane", Gateway: netip.MustParsePrefix(network + "1/24"), DisableMetadata: true,
		First: netip.MustParseAddr(network + "10"), Last: netip.MustParseAddr(network + "12"),
	})
}

// networkCases are those of subnets and addresses.
func networkCases() map[string]unaryCase {
	return map[string]unaryCase{
		"UpdateSubnets": {
			func(context.Context, *world) proto.Message {
				return &hypervisorv1.UpdateSubnetsRequest{
					Add: []*hypervisorv1.Subnet{{
						Id: "fresh", IpGateway: "10.77.0.1", IpMask: "255.255.255.0", DomainName: "fresh.internal", DomainNameServers: []string{"192.0.2.53"},
						Manage: true, AllowedUsers: []string{"alice"}, FirstDynamicIp: "10.77.0.100", LastDynamicIp: "10.77.0.110", Tags: map[string]string{"a": "b"},
					}},
					Delete: []string{"lo"},
				}
			},
			checkSubnets,
		},
		"ChangeAddressPool": {
			func(_ context.Context, w *world) proto.Message {
				first := w.Config.Subnets[1].First
				return &hypervisorv1.ChangeAddressPoolRequest{
					AddressesToAdd:       []*hypervisorv1.Address{{IpAddress: "10.88.0.5", MacAddress: "52:54:00:00:00:05"}},
					AddressesToRemove:    []*hypervisorv1.Address{{IpAddress: first.String()}},
					MaximumFreeAddresses: map[string]uint32{"lo": 1},
				}
			},
			checkPool,
		},
		"RegisterExternalLeases": {
			func(context.Context, *world) proto.Message {
				return &hypervisorv1.RegisterExternalLeasesRequest{
					Addresses: []*hypervisorv1.Address{{IpAddress: "10.88.0.10", MacAddress: "52:54:00:00:00:10"}}, Hostnames: []string{"outside"},
				}
			},
			func(ctx context.Context, t *testing.T, w *world, _, _ proto.Message) {
				t.Helper()
				got, err := w.createIn(ctx, "default", "")
				if err != nil || got.GetAddress().GetIpAddress() != "10.88.0.11" {
					t.Errorf("the next VM: %v, %v", got.GetAddress(), err)
				}
				if _, err := w.createIn(ctx, "default", "10.88.0.10"); status.Code(err) != codes.AlreadyExists {
					t.Errorf("a VM that wishes for the leased address: %v", err)
				}
			},
		},
		"NetbootMachine": {
			func(_ context.Context, w *world) proto.Message {
				address := w.Config.Subnets[1].Last.Next()
				return &hypervisorv1.NetbootMachineRequest{
					Address: &hypervisorv1.Address{IpAddress: address.String(), MacAddress: "52:54:00:00:00:20"},
					Files:   map[string][]byte{"pxelinux.0": []byte("program")},
				}
			},
			func(ctx context.Context, t *testing.T, w *world, req, _ proto.Message) {
				t.Helper()
				client := req.(*hypervisorv1.NetbootMachineRequest).GetAddress().GetIpAddress()
				server := w.Config.Subnets[1].Gateway.Addr().String()
				if got, err := fetchTFTP(ctx, client, server, "pxelinux.0"); err != nil || got != "program" {
					t.Errorf("the machine's file: %q, %v", got, err)
				}
			},
		},
	}
}

// createIn makes a VM in a subnet, with an address if one is given.
func (w *world) createIn(ctx context.Context, subnet, address string) (*hypervisorv1.VmInfo, error) {
	s := spec(false)
	s.VmInfo.SubnetId = subnet
	if address != "" {
		s.VmInfo.Address = &hypervisorv1.Address{IpAddress: address}
	}
	res, err := w.vms().CreateVmAsync(ctx, &hypervisorv1.CreateVmAsyncRequest{Spec: s})
	return res.GetVmInfo(), err
}

func (w *world) network() hypervisorv1.NetworkServiceClient {
	return hypervisorv1.NewNetworkServiceClient(w.cc)
}

// checkSubnets checks that the subnets have changed, also in what watchers see and after a restart.
func checkSubnets(ctx context.Context, t *testing.T, w *world, req, _ proto.Message) {
	t.Helper()
	want := req.(*hypervisorv1.UpdateSubnetsRequest).GetAdd()[0]
	check := func(when string) {
		res, err := w.network().ListSubnets(ctx, &hypervisorv1.ListSubnetsRequest{})
		if err != nil || len(res.GetSubnets()) != 2 {
			t.Fatalf("%s: %v, %v", when, res, err)
		}
		got := proto.CloneOf(res.GetSubnets()[1])
		got.DisableMetadata = false // the fake's DHCP server has no metadata service beside it
		if !proto.Equal(got, want) {
			t.Errorf("%s: %v, want %v", when, got, want)
		}
	}
	check("at once")
	w.Restart()
	w.cc = w.Dial(true)
	check("after a restart")
	_, err := w.network().ChangeAddressPool(ctx, &hypervisorv1.ChangeAddressPoolRequest{AddressesToAdd: []*hypervisorv1.Address{{IpAddress: "10.77.0.9"}}})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := w.createIn(ctx, "fresh", ""); err != nil || got.GetAddress().GetIpAddress() != "10.77.0.9" {
		t.Errorf("a VM in it: %v, %v", got.GetAddress(), err)
	}
	if _, err := w.network().UpdateSubnets(ctx, &hypervisorv1.UpdateSubnetsRequest{Delete: []string{"fresh"}}); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("deleting a subnet with a VM: %v", err)
	}
	checkIPv6(ctx, t, w)
}

// checkIPv6 gives the host a subnet with IPv6 on an existing bridge, and VMs addresses in it. SRPC knows nothing of IPv6, so this is said over gRPC.
func checkIPv6(ctx context.Context, t *testing.T, w *world) {
	t.Helper()
	subnet := &hypervisorv1.Subnet{Id: "six", IpGateway: "10.78.0.1", IpMask: "255.255.255.0", Ipv6Gateway: new("FD00:78:0::1/64"), Ipv6NameServers: []string{"2001:DB8::53"}}
	if _, err := w.network().UpdateSubnets(ctx, &hypervisorv1.UpdateSubnetsRequest{Add: []*hypervisorv1.Subnet{subnet}}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.network().ChangeAddressPool(ctx, &hypervisorv1.ChangeAddressPoolRequest{
		AddressesToAdd: []*hypervisorv1.Address{{IpAddress: "10.78.0.9"}, {IpAddress: "10.78.0.10"}, {IpAddress: "10.78.0.11"}},
	}); err != nil {
		t.Fatal(err)
	}
	first, err := w.createSix(ctx, "six", "FD00:78:0:0::A")
	if err != nil {
		t.Fatal(err)
	}
	check := func(when string) {
		res, err := w.network().ListSubnets(ctx, &hypervisorv1.ListSubnetsRequest{})
		if n := res.GetSubnets(); err != nil || n[len(n)-1].GetIpv6Gateway() != "fd00:78::1/64" || n[len(n)-1].GetIpv6NameServers()[0] != "2001:db8::53" {
			t.Errorf("%s: %v, %v", when, res, err)
		}
		if info := w.info(ctx, "fd00:78:0::a"); info.GetUuid() != first.GetUuid() || info.GetAddress().GetIpv6Address() != "fd00:78::a" {
			t.Errorf("%s: the VM: %v", when, info)
		}
		if !slices.ContainsFunc(w.pool(ctx).GetAddresses(), func(a *hypervisorv1.Address) bool { return a.GetIpv6Address() == "fd00:78::a" }) {
			t.Errorf("%s: a watcher does not see the address", when)
		}
		for text, want := range map[string]codes.Code{
			"fd00:78::a": codes.AlreadyExists, "fd00:79::b": codes.InvalidArgument, "fd00:78::1": codes.InvalidArgument, "::ffff:10.78.0.20": codes.InvalidArgument,
			"fe80::b": codes.InvalidArgument, "10.78.0.20": codes.InvalidArgument,
		} {
			if _, err := w.createSix(ctx, "six", text); status.Code(err) != want || !strings.Contains(err.Error(), "ipv6_address") {
				t.Errorf("%s: a VM with %s: %v", when, text, err)
			}
		}
	}
	check("IPv6 at once")
	w.Restart()
	w.cc = w.Dial(true)
	check("IPv6 after a restart")
	subnet.Ipv6Gateway, subnet.Ipv6NameServers = new(""), nil
	if _, err := w.network().UpdateSubnets(ctx, &hypervisorv1.UpdateSubnetsRequest{Change: []*hypervisorv1.Subnet{subnet}}); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("taking the IPv6 of a VM: %v", err)
	}
	if _, err := w.createSix(ctx, "default", "fd00:78::b"); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("where the virtualiser leases addresses: %v", err)
	}
	moved, err := w.createIn(ctx, "default", "")
	if err != nil {
		t.Fatal(err)
	}
	w.settled(ctx, moved.GetAddress().GetIpAddress(), hypervisorv1.State_STATE_STOPPED)
	move := &hypervisorv1.ChangeVmSubnetRequest{Vm: moved.GetUuid(), SubnetId: "six", Ipv6Address: "fd00:78::b"}
	if _, err := hypervisorv1.NewVmConfigurationServiceClient(w.cc).ChangeVmSubnet(ctx, move); err != nil || w.info(ctx, "fd00:78::b").GetUuid() != moved.GetUuid() {
		t.Errorf("moved into the subnet: %v", err)
	}
}

// createSix makes a VM in a subnet with an IPv6 address.
func (w *world) createSix(ctx context.Context, subnet, address string) (*hypervisorv1.VmInfo, error) {
	s := spec(false)
	s.VmInfo.SubnetId, s.VmInfo.Address = subnet, &hypervisorv1.Address{Ipv6Address: address}
	res, err := w.vms().CreateVmAsync(ctx, &hypervisorv1.CreateVmAsyncRequest{Spec: s})
	return res.GetVmInfo(), err
}

func checkPool(ctx context.Context, t *testing.T, w *world, _, _ proto.Message) {
	t.Helper()
	pool := w.pool(ctx)
	if free := pool.GetNumFreeAddresses(); free["lo"] != 1 || free["default"] != 242 {
		t.Errorf("free addresses: %v", free)
	}
	if !slices.ContainsFunc(pool.GetAddresses(), func(a *hypervisorv1.Address) bool {
		return a.GetIpAddress() == "10.88.0.5" && a.GetMacAddress() == "52:54:00:00:00:05"
	}) {
		t.Errorf("pool without the new address")
	}
	w.Restart()
	w.cc = w.Dial(true)
	if again := w.pool(ctx); !proto.Equal(pool, again) {
		t.Errorf("after a restart: %v", again)
	}
}

// pool returns the addresses as a watcher sees them.
func (w *world) pool(ctx context.Context) *hypervisorv1.AddressPool {
	w.t.Helper()
	stream, err := w.monitoring().GetUpdates(ctx)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := stream.Send(&hypervisorv1.GetUpdatesRequest{}); err != nil {
		w.t.Fatal(err)
	}
	m, err := stream.Recv()
	if err != nil {
		w.t.Fatal(err)
	}
	return m.GetUpdate().GetAddressPool()
}

// fetchTFTP reads a file of one block.
func fetchTFTP(ctx context.Context, client, server, name string) (string, error) {
	conn, err := new(net.ListenConfig).ListenPacket(ctx, "udp4", net.JoinHostPort(client, "0"))
	if err != nil {
		return "", err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	to := net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(server), 69))
	if _, err := conn.WriteTo([]byte("\x00\x01"+name+"\x00octet\x00"), to); err != nil {
		return "", err
	}
	buf := make([]byte, 1024)
	n, from, err := conn.ReadFrom(buf)
	if err != nil || !strings.HasPrefix(string(buf[:n]), "\x00\x03\x00\x01") {
		return "", fmt.Errorf("answer %q: %w", buf[:n], err)
	}
	_, err = conn.WriteTo([]byte("\x00\x04\x00\x01"), from)
	return string(buf[4:n]), err
}

// networkStreams are the streams of what passes the network.
func networkStreams() map[string]streamCase {
	return map[string]streamCase{
		"WatchDhcp":       {watchDHCPGRPC, watchDHCPREST},
		"TraceVmMetadata": {traceGRPC, traceREST},
	}
}

// ask sends DHCP packets over the loopback interface until ctx ends.
func ask(ctx context.Context) error {
	conn, err := new(net.Dialer).DialContext(ctx, "udp4", "127.0.0.1:67")
	if err != nil {
		return err
	}
	m, err := dhcpv4.NewDiscovery(net.HardwareAddr{2, 0, 0, 0, 0, 1})
	if err != nil {
		return err
	}
	go func() {
		defer conn.Close()
		for {
			_, _ = conn.Write(m.ToBytes()) // nobody listens there, which some systems report
			select {
			case <-ctx.Done():
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
	}()
	return nil
}

func watchDHCPGRPC(ctx context.Context, w *world) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := w.monitoring().WatchDhcp(ctx, &hypervisorv1.WatchDhcpRequest{Interface: "lo", MaxPackets: 1})
	if err != nil {
		return err
	}
	if err := ask(ctx); err != nil {
		return err
	}
	m, err := stream.Recv()
	if err != nil {
		return err
	}
	if p, err := dhcpv4.FromBytes(m.GetPacket()); err != nil || m.GetInterface() != "lo" || p.MessageType() != dhcpv4.MessageTypeDiscover {
		return fmt.Errorf("packet %v: %w", m, err)
	}
	if m, err := stream.Recv(); err == nil {
		return fmt.Errorf("more packets than asked for: %v", m)
	}
	return nil
}

func watchDHCPREST(ctx context.Context, _ *world, r restTransport) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := ask(ctx); err != nil {
		return err
	}
	return r.lines(ctx, http.MethodGet, "/v1/dhcpPackets?interface=lo&max_packets=1", "", func(line []byte) (bool, error) {
		return strings.Contains(string(line), `"interface":"lo"`), nil
	})
}

func (w *world) destroy(ctx context.Context, vm string) error {
	_, err := w.vms().DestroyVm(ctx, &hypervisorv1.DestroyVmRequest{Vm: vm})
	return err
}

func traceGRPC(ctx context.Context, w *world) error {
	vm := w.vm(ctx, true)
	stream, err := w.monitoring().TraceVmMetadata(ctx, &hypervisorv1.TraceVmMetadataRequest{Vm: vm})
	if err != nil {
		return err
	}
	if _, err := stream.Header(); err != nil {
		return err
	}
	if err := w.destroy(ctx, vm); err != nil {
		return err
	}
	for _, want := range []string{"VM destroyed", ""} {
		if m, err := stream.Recv(); err != nil || m.GetLine() != want {
			return fmt.Errorf("line %q: %w", m.GetLine(), err)
		}
	}
	return nil
}

func traceREST(ctx context.Context, w *world, r restTransport) error {
	vm := w.vm(ctx, true)
	destroyed := make(chan error, 1)
	timer := time.AfterFunc(time.Second, func() { destroyed <- w.destroy(ctx, vm) }) // REST shows no header before the first line
	defer timer.Stop()
	err := r.lines(ctx, http.MethodGet, "/v1/vms/"+vm+"/metadataTrace", "", func(line []byte) (bool, error) {
		return strings.Contains(string(line), "VM destroyed"), nil
	})
	if err != nil {
		return err
	}
	return <-destroyed
}
