package network_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/principal"
	"github.com/hyperplane-project/hyperplane/server/feed"
	"github.com/hyperplane-project/hyperplane/server/hypervisor/fake"
	"github.com/hyperplane-project/hyperplane/server/network"
)

func subnet(id string, third int) network.Subnet {
	ip := func(last int) string { return fmt.Sprintf("10.7.%d.%d", third, last) }
	return network.Subnet{
		ID: id, Bridge: "br-" + id, Gateway: netip.MustParsePrefix(ip(1) + "/24"), First: netip.MustParseAddr(ip(1)), Last: netip.MustParseAddr(ip(4)),
	}
}

func newService(t *testing.T, subnets ...network.Subnet) *network.Service {
	t.Helper()
	_, driver := fake.New(fake.Options{})
	t.Cleanup(func() { _ = driver.Close() })
	s, err := network.New(driver, feed.New(time.Now), subnets)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestAddressesAreGivenOnceAndTakenBack(t *testing.T) {
	t.Parallel()
	s := newService(t, subnet("a", 1))
	seen := make(map[string]bool)
	for i := range 3 { // .2 to .4: .1 is the gateway
		a, id, err := s.Allocate(network.Request{UUID: fmt.Sprint(i)})
		if err != nil || id != "a" || seen[a.GetIpAddress()] || a.GetIpAddress() == "10.7.1.1" {
			t.Fatalf("address %d: %v %s %v", i, a, id, err)
		}
		seen[a.GetIpAddress()] = true
	}
	if _, _, err := s.Allocate(network.Request{UUID: "x"}); !fault.Is(err, fault.ResourceExhausted) {
		t.Errorf("from an empty pool: %v", err)
	}
	s.Release("1")
	if a, _, err := s.Allocate(network.Request{UUID: "x"}); err != nil || a.GetIpAddress() != "10.7.1.3" {
		t.Errorf("after a release: %v %v", a, err)
	}
}

func TestWishesAreKeptOrRefused(t *testing.T) {
	t.Parallel()
	restricted := subnet("b", 2)
	restricted.AllowedUsers = []string{"alice"}
	s := newService(t, subnet("a", 1), restricted)
	alice := principal.Caller{Principal: principal.Principal{Name: "alice"}}
	want := &hypervisorv1.Address{IpAddress: "10.7.2.3", MacAddress: "00:50:56:00:00:01"}
	if a, _, err := s.Allocate(network.Request{UUID: "1", SubnetID: "b", Want: want, Caller: alice}); err != nil || a.GetIpAddress() != "10.7.2.3" || a.GetMacAddress() != "00:50:56:00:00:01" {
		t.Fatalf("wish: %v %v", a, err)
	}
	for name, c := range map[string]struct {
		req  network.Request
		code fault.Code
	}{
		"taken IP":         {network.Request{SubnetID: "b", Want: &hypervisorv1.Address{IpAddress: "10.7.2.3"}, Caller: alice}, fault.AlreadyExists},
		"taken MAC":        {network.Request{SubnetID: "a", Want: &hypervisorv1.Address{MacAddress: "00:50:56:00:00:01"}}, fault.AlreadyExists},
		"other subnet":     {network.Request{SubnetID: "a", Want: &hypervisorv1.Address{IpAddress: "10.7.2.4"}}, fault.InvalidArgument},
		"the gateway":      {network.Request{SubnetID: "a", Want: &hypervisorv1.Address{IpAddress: "10.7.1.1"}}, fault.InvalidArgument},
		"no IP":            {network.Request{SubnetID: "a", Want: &hypervisorv1.Address{IpAddress: "ten"}}, fault.InvalidArgument},
		"group MAC":        {network.Request{SubnetID: "a", Want: &hypervisorv1.Address{MacAddress: "01:00:5e:00:00:01"}}, fault.InvalidArgument},
		"not allowed":      {network.Request{SubnetID: "b", Caller: principal.Caller{Principal: principal.Principal{Name: "bob"}}}, fault.PermissionDenied},
		"unknown subnet":   {network.Request{SubnetID: "c"}, fault.NotFound},
		"which of the two": {network.Request{}, fault.InvalidArgument},
	} {
		if a, _, err := s.Allocate(c.req); !fault.Is(err, c.code) {
			t.Errorf("%s: %v %v", name, a, err)
		}
	}
}

func TestBadSubnetsAreRefused(t *testing.T) {
	t.Parallel()
	change := func(f func(*network.Subnet)) network.Subnet {
		s := subnet("a", 1)
		f(&s)
		return s
	}
	for name, s := range map[string]network.Subnet{
		"no id":           change(func(s *network.Subnet) { s.ID = "" }),
		"reserved id":     change(func(s *network.Subnet) { s.ID = "hypervisor" }),
		"long bridge":     change(func(s *network.Subnet) { s.Bridge = "a-bridge-with-a-long-name" }),
		"range outside":   change(func(s *network.Subnet) { s.Last = netip.MustParseAddr("10.8.0.1") }),
		"range backwards": change(func(s *network.Subnet) { s.First, s.Last = s.Last, s.First }),
		"IPv6":            change(func(s *network.Subnet) { s.Gateway = netip.MustParsePrefix("fd00::1/64") }),
		"more than enough": change(func(s *network.Subnet) {
			s.Gateway, s.First, s.Last = netip.MustParsePrefix("10.0.0.1/8"), netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("10.255.0.0")
		}),
	} {
		if err := s.Validate(); !fault.Is(err, fault.InvalidArgument) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
