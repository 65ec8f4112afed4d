package network_test

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/feed"
	"github.com/hyperplane-project/hyperplane/server/hypervisor/fake"
	"github.com/hyperplane-project/hyperplane/server/network"
	"github.com/hyperplane-project/hyperplane/server/store"
	"github.com/hyperplane-project/hyperplane/server/store/bolt"
)

// brokenStore fails to write while broken is set.
type brokenStore struct {
	store.Store
	broken bool
}

func (s *brokenStore) Update(ctx context.Context, fn func(store.Writer) error) (uint64, error) {
	if s.broken {
		return 0, errors.New("broken")
	}
	return s.Store.Update(ctx, fn)
}

// fixture is a service with the subnets a (10.7.1.0/24) and b (10.7.2.0/24) of a configuration, and a store.
type fixture struct {
	alive map[string]bool
	*network.Service
	t      *testing.T
	host   *fake.Host
	driver *fake.Driver
	store  *brokenStore
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	st, err := bolt.Open(filepath.Join(t.TempDir(), "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	f := &fixture{t: t, store: &brokenStore{Store: st}}
	f.host, f.driver = fake.New(fake.Options{})
	t.Cleanup(func() { _ = f.driver.Close() })
	f.restart()
	return f
}

func (f *fixture) restart() {
	f.t.Helper()
	var err error
	f.Service, err = network.Open(f.t.Context(), network.Deps{
		Log: slog.New(slog.NewTextHandler(f.t.Output(), nil)), Driver: f.driver, Feed: feed.New(time.Now), Store: f.store, Now: time.Now,
		Alive: func(uuid string) bool { return f.alive[uuid] }, GivenBridges: map[string]string{"fleet": "br7"},
	}, []network.Subnet{subnet("a", 1), subnet("b", 2)})
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) update(req *hypervisorv1.UpdateSubnetsRequest) error {
	_, err := f.UpdateSubnets(f.t.Context(), req)
	return err
}

func (f *fixture) ids() (ids []string) {
	res, err := f.ListSubnets(f.t.Context(), &hypervisorv1.ListSubnetsRequest{Sort: true})
	if err != nil {
		f.t.Fatal(err)
	}
	for _, n := range res.GetSubnets() {
		ids = append(ids, n.GetId()+"="+n.GetIpGateway()+"/"+n.GetDomainName())
	}
	return ids
}

func (f *fixture) isNow(when string, want ...string) {
	f.t.Helper()
	got := f.ids()
	if len(got) != len(want) {
		f.t.Fatalf("%s: %v, want %v", when, got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			f.t.Errorf("%s: %v, want %v", when, got, want)
		}
	}
}

func wire(id, gateway string) *hypervisorv1.Subnet {
	return &hypervisorv1.Subnet{Id: id, IpGateway: gateway, IpMask: "255.255.255.0", Manage: true}
}

func TestSubnetsAreChangedTogetherOrNotAtAll(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	named := wire("a", "10.7.1.1")
	named.DomainName = "new.internal"
	good := &hypervisorv1.UpdateSubnetsRequest{Add: []*hypervisorv1.Subnet{wire("c", "10.7.3.1")}, Change: []*hypervisorv1.Subnet{named}, Delete: []string{"b"}}
	f.store.broken = true
	if err := f.update(good); err == nil {
		t.Error("changed without a store")
	}
	f.store.broken = false
	f.isNow("after a failure", "a=10.7.1.1/", "b=10.7.2.1/")
	if err := f.update(good); err != nil {
		t.Fatal(err)
	}
	f.isNow("changed", "a=10.7.1.1/new.internal", "c=10.7.3.1/")
	f.restart()
	f.isNow("after a restart", "a=10.7.1.1/new.internal", "c=10.7.3.1/")

	change := func(f func(*hypervisorv1.Subnet)) *hypervisorv1.Subnet {
		s := wire("d", "10.7.4.1")
		f(s)
		return s
	}
	for name, c := range map[string]struct {
		add  *hypervisorv1.Subnet
		code fault.Code
	}{
		"there already": {wire("a", "10.7.4.1"), fault.AlreadyExists},
		"reserved":      {wire("hypervisor", "10.7.4.1"), fault.InvalidArgument},
		"overlapping":   {wire("d", "10.7.1.129"), fault.InvalidArgument},
		"IPv6":          {wire("d", "fd00::1"), fault.InvalidArgument},
		"mask":          {change(func(s *hypervisorv1.Subnet) { s.IpMask = "255.0.255.0" }), fault.InvalidArgument},
		"name server":   {change(func(s *hypervisorv1.Subnet) { s.DomainNameServers = []string{"x"} }), fault.InvalidArgument},
		"half a range":  {change(func(s *hypervisorv1.Subnet) { s.FirstDynamicIp = "10.7.4.9" }), fault.InvalidArgument},
		"range outside": {change(func(s *hypervisorv1.Subnet) { s.FirstDynamicIp, s.LastDynamicIp = "10.7.4.9", "10.7.5.9" }), fault.InvalidArgument},
		"VLAN":          {change(func(s *hypervisorv1.Subnet) { s.VlanId = 7 }), fault.FailedPrecondition},
	} {
		if err := f.update(&hypervisorv1.UpdateSubnetsRequest{Add: []*hypervisorv1.Subnet{c.add}, Delete: []string{"c"}}); !fault.Is(err, c.code) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, req := range map[string]*hypervisorv1.UpdateSubnetsRequest{
		"unknown deletion": {Delete: []string{"c", "x"}}, "unknown change": {Delete: []string{"c"}, Change: []*hypervisorv1.Subnet{wire("x", "10.7.4.1")}},
	} {
		if err := f.update(req); !fault.Is(err, fault.NotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
	f.isNow("after refusals", "a=10.7.1.1/new.internal", "c=10.7.3.1/")
}

func TestSubnetsWithVMs(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	if _, _, err := f.Allocate(network.Request{UUID: "1", SubnetID: "a"}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Attach(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	f.alive = map[string]bool{"1": true}
	for name, req := range map[string]*hypervisorv1.UpdateSubnetsRequest{
		"deleted": {Delete: []string{"a"}}, "moved": {Change: []*hypervisorv1.Subnet{{Id: "a", IpGateway: "10.7.1.1", IpMask: "255.255.255.128", Manage: true}}},
	} {
		if err := f.update(req); !fault.Is(err, fault.FailedPrecondition) {
			t.Errorf("%s: %v", name, err)
		}
	}
	tagged := wire("a", "10.7.1.1")
	tagged.AllowedUsers = []string{"alice"}
	if err := f.update(&hypervisorv1.UpdateSubnetsRequest{Change: []*hypervisorv1.Subnet{tagged}}); err != nil {
		t.Errorf("its users: %v", err)
	}
	f.Release("1")
	if err := f.update(&hypervisorv1.UpdateSubnetsRequest{Delete: []string{"a"}}); err != nil {
		t.Fatal(err)
	}
	if _, _, exists := f.host.Network("hyperplane-a"); exists {
		t.Error("the network of a deleted subnet is still there")
	}
}

func TestAddressPool(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	change := func(req *hypervisorv1.ChangeAddressPoolRequest) error {
		_, err := f.ChangeAddressPool(t.Context(), req)
		return err
	}
	address := func(ip, mac string) []*hypervisorv1.Address {
		return []*hypervisorv1.Address{{IpAddress: ip, MacAddress: mac}}
	}
	if a, _, err := f.Allocate(network.Request{UUID: "1", SubnetID: "a"}); err != nil || a.GetIpAddress() != "10.7.1.2" {
		t.Fatal(a, err)
	}
	for name, c := range map[string]struct {
		req  *hypervisorv1.ChangeAddressPoolRequest
		code fault.Code
	}{
		"no subnet":     {&hypervisorv1.ChangeAddressPoolRequest{AddressesToAdd: address("192.0.2.1", "")}, fault.InvalidArgument},
		"gateway":       {&hypervisorv1.ChangeAddressPoolRequest{AddressesToAdd: address("10.7.1.1", "")}, fault.InvalidArgument},
		"broadcast":     {&hypervisorv1.ChangeAddressPoolRequest{AddressesToAdd: address("10.7.1.255", "")}, fault.InvalidArgument},
		"there already": {&hypervisorv1.ChangeAddressPoolRequest{AddressesToAdd: address("10.7.1.3", "")}, fault.AlreadyExists},
		"a VM's MAC":    {&hypervisorv1.ChangeAddressPoolRequest{AddressesToAdd: address("10.7.1.50", "52:54:0a:07:01:02")}, fault.AlreadyExists},
		"in use":        {&hypervisorv1.ChangeAddressPoolRequest{AddressesToRemove: address("10.7.1.2", "")}, fault.FailedPrecondition},
		"not there":     {&hypervisorv1.ChangeAddressPoolRequest{AddressesToRemove: address("10.7.1.99", "")}, fault.NotFound},
		"unknown MAC":   {&hypervisorv1.ChangeAddressPoolRequest{AddressesToRemove: address("", "52:54:00:00:00:99")}, fault.NotFound},
		"which subnet":  {&hypervisorv1.ChangeAddressPoolRequest{MaximumFreeAddresses: map[string]uint32{"x": 1}}, fault.NotFound},
		"half good":     {&hypervisorv1.ChangeAddressPoolRequest{AddressesToRemove: address("10.7.1.3", ""), AddressesToAdd: address("x", "")}, fault.InvalidArgument},
	} {
		if err := change(c.req); !fault.Is(err, c.code) {
			t.Errorf("%s: %v", name, err)
		}
	}
	good := &hypervisorv1.ChangeAddressPoolRequest{
		AddressesToRemove: address("10.7.1.3", ""), AddressesToAdd: address("10.7.1.50", "52:54:00:00:00:50"), MaximumFreeAddresses: map[string]uint32{"b": 0},
	}
	f.store.broken = true
	if err := change(good); err == nil {
		t.Error("changed without a store")
	}
	f.store.broken = false
	if err := change(good); err != nil {
		t.Fatal(err)
	}
	f.restart()
	if _, _, err := f.Allocate(network.Request{UUID: "2", SubnetID: "b"}); !fault.Is(err, fault.ResourceExhausted) {
		t.Errorf("from a pool that was emptied: %v", err)
	}
	var got []string
	for {
		a, _, err := f.Allocate(network.Request{UUID: "1", SubnetID: "a"})
		if err != nil {
			break
		}
		got = append(got, a.GetIpAddress()+" "+a.GetMacAddress())
	}
	if want := []string{"10.7.1.2 52:54:0a:07:01:02", "10.7.1.4 52:54:0a:07:01:04", "10.7.1.50 52:54:00:00:00:50"}; len(got) != 3 || got[0] != want[0] || got[1] != want[1] || got[2] != want[2] {
		t.Errorf("addresses: %v, want %v", got, want)
	}
	if err := change(&hypervisorv1.ChangeAddressPoolRequest{AddressesToAdd: address("10.7.1.3", "")}); err != nil {
		t.Errorf("putting an address back: %v", err)
	}
}

func TestOneNameOfTwoVMs(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, uuid := range []string{"1", "2", "3"} {
		if _, _, err := f.Allocate(network.Request{UUID: uuid, Hostname: "Web", SubnetID: "a"}); err != nil {
			t.Fatal(err)
		}
	}
	f.Lease("3", false)
	if _, err := f.Attach(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	_, leases, _ := f.host.Network("hyperplane-a")
	names := make(map[netip.Addr]string)
	for _, l := range leases {
		names[l.Address] = l.Hostname
	}
	if len(leases) != 2 || names[netip.MustParseAddr("10.7.1.2")] != "Web" || names[netip.MustParseAddr("10.7.1.3")] != "" {
		t.Errorf("leases: %v", leases)
	}
	if _, _, err := f.Acknowledged("1"); !fault.Is(err, fault.Unimplemented) {
		t.Errorf("waiting for a lease of the virtualiser: %v", err)
	}
}

func TestExternalLeases(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	if _, _, err := f.Allocate(network.Request{UUID: "1", SubnetID: "a"}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Attach(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	leased := func() int {
		_, leases, _ := f.host.Network("hyperplane-a")
		return len(leases)
	}
	lease := func(ip, mac string) *hypervisorv1.ExternalLeases {
		return &hypervisorv1.ExternalLeases{Addresses: []*hypervisorv1.Address{{IpAddress: ip, MacAddress: mac}}, Hostnames: []string{"x"}}
	}
	replace, drop := f.ServeExternal()
	for name, c := range map[string]struct {
		leases *hypervisorv1.ExternalLeases
		code   fault.Code
	}{
		"a VM's address": {lease("10.7.1.2", "52:54:00:00:00:01"), fault.AlreadyExists},
		"a VM's MAC":     {lease("10.7.1.9", "52:54:0a:07:01:02"), fault.AlreadyExists},
		"no MAC":         {lease("10.7.1.9", ""), fault.InvalidArgument},
		"elsewhere":      {lease("192.0.2.1", "52:54:00:00:00:01"), fault.InvalidArgument},
		"names":          {&hypervisorv1.ExternalLeases{Hostnames: []string{"x"}}, fault.InvalidArgument},
	} {
		if err := replace(t.Context(), c.leases); !fault.Is(err, c.code) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := replace(t.Context(), lease("10.7.1.3", "52:54:00:00:00:01")); err != nil || leased() != 2 {
		t.Fatalf("%d leases, %v", leased(), err)
	}
	again := &hypervisorv1.RegisterExternalLeasesRequest{Addresses: lease("10.7.1.3", "52:54:00:00:00:02").GetAddresses()}
	if _, err := f.RegisterExternalLeases(t.Context(), again); !fault.Is(err, fault.AlreadyExists) {
		t.Errorf("an address of another registration: %v", err)
	}
	f.host.FailNext("SetLeases", fault.New(fault.Unavailable, "no DHCP"))
	if err := replace(t.Context(), lease("10.7.1.4", "52:54:00:00:00:01")); !fault.Is(err, fault.Unavailable) {
		t.Errorf("without DHCP: %v", err)
	}
	if err := drop(t.Context()); err != nil || leased() != 1 {
		t.Errorf("dropped: %d leases, %v", leased(), err)
	}
	if _, err := f.RegisterExternalLeases(t.Context(), again); err != nil || leased() != 2 {
		t.Errorf("registered: %d leases, %v", leased(), err)
	}
	if a, _, err := f.Allocate(network.Request{UUID: "2", SubnetID: "a"}); err != nil || a.GetIpAddress() != "10.7.1.4" {
		t.Errorf("the next VM: %v, %v", a, err)
	}
}

// TestSubnetOfVMsIsChanged gives a subnet another gateway and another bridge while it has VMs, of which none runs, and lets VMs name a subnet by their address.
func TestSubnetOfVMsIsChanged(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	address, subnet, err := f.Allocate(network.Request{UUID: "vm", Want: &hypervisorv1.Address{IpAddress: "10.7.2.9"}})
	if err != nil || subnet != "b" || address.GetIpAddress() != "10.7.2.9" {
		t.Fatalf("%v in subnet %q, %v", address, subnet, err)
	}
	if _, _, err := f.Allocate(network.Request{UUID: "other", Want: &hypervisorv1.Address{IpAddress: "10.99.2.9"}}); !fault.Is(err, fault.InvalidArgument) {
		t.Errorf("an address of no subnet: %v", err)
	}
	bridged := wire("b", "10.7.2.254")
	bridged.Manage, bridged.DomainName = false, "new.internal"
	elsewhere := wire("b", "10.8.2.1")
	change := func(n *hypervisorv1.Subnet) error {
		return f.update(&hypervisorv1.UpdateSubnetsRequest{Change: []*hypervisorv1.Subnet{n}})
	}
	f.alive = map[string]bool{"vm": true}
	if err := change(bridged); !fault.Is(err, fault.FailedPrecondition) || !strings.Contains(err.Error(), "VM vm runs with address 10.7.2.9") {
		t.Errorf("while it runs: %v", err)
	}
	f.alive = nil
	if err := change(elsewhere); !fault.Is(err, fault.InvalidArgument) {
		t.Errorf("away from its address: %v", err)
	}
	if err := change(bridged); err != nil {
		t.Error(err)
	}
	f.isNow("afterwards", "a=10.7.1.1/", "b=10.7.2.254/new.internal")
}

// TestSubnetOnAGivenBridge puts a subnet that a fleet manager calls managed onto the bridge that the configuration names for it.
func TestSubnetOnAGivenBridge(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	fleet := wire("fleet", "10.9.0.254")
	fleet.VlanId = 7
	check := func(when string) {
		t.Helper()
		nic, err := f.Attach(t.Context(), "fleet")
		if err != nil || nic.Bridge != "br7" || nic.Network != "" {
			t.Errorf("%s: %+v, %v", when, nic, err)
		}
		res, err := f.ListSubnets(t.Context(), &hypervisorv1.ListSubnetsRequest{Sort: true})
		if n := res.GetSubnets(); err != nil || len(n) != 3 || !n[2].GetManage() || n[2].GetVlanId() != 7 || n[2].GetIpGateway() != "10.9.0.254" {
			t.Errorf("%s: %v, %v", when, n, err)
		}
	}
	if err := f.update(&hypervisorv1.UpdateSubnetsRequest{Add: []*hypervisorv1.Subnet{fleet}}); err != nil {
		t.Fatal(err)
	}
	check("added")
	if _, _, err := f.Allocate(network.Request{UUID: "vm", SubnetID: "fleet", Want: &hypervisorv1.Address{IpAddress: "10.9.0.5"}}); err != nil {
		t.Fatal(err)
	}
	f.alive = map[string]bool{"vm": true}
	fleet.DomainName = "new.internal"
	if err := f.update(&hypervisorv1.UpdateSubnetsRequest{Change: []*hypervisorv1.Subnet{fleet}}); err != nil {
		t.Error(err)
	}
	check("changed")
	f.restart()
	check("after a restart")
}
