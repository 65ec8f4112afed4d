package network_test

import (
	"log/slog"
	"net/netip"
	"testing"
	"time"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/feed"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
	"github.com/hyperplane-project/hyperplane/server/network"
)

// TestIPv6OfAManagedSubnet gives IPv6 to a subnet whose bridge the virtualiser makes: while its VMs are stopped, and not while one runs.
func TestIPv6OfAManagedSubnet(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	made := subnet("m", 6)
	made.DHCP = "none"
	var err error
	f.Service, err = network.Open(t.Context(), network.Deps{
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Driver: f.driver, Feed: feed.New(time.Now), Store: f.store, Now: time.Now,
	}, []network.Subnet{made})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.allocate("1", "m", ""); err != nil {
		t.Fatal(err)
	}
	nic, err := f.Attach(t.Context(), "m")
	if err != nil {
		t.Fatal(err)
	}
	gateway := func() netip.Prefix {
		shape, _, exists := f.host.Network("hyperplane-m")
		if !exists {
			t.Error("there is no network")
		}
		return shape.Gateway6
	}
	change := func(gateway6 string) error {
		n := wire("m", "10.7.6.1")
		n.Ipv6Gateway = &gateway6
		return f.update(&hypervisorv1.UpdateSubnetsRequest{Change: []*hypervisorv1.Subnet{n}})
	}
	want := netip.MustParsePrefix("fd00:6::1/64")
	if err := change("fd00:6::1/64"); err != nil || gateway() != want {
		t.Fatalf("while the VM is stopped: %v, %v", gateway(), err)
	}

	const uuid = "6d6d0000-0000-4000-8000-000000000001"
	nic.MAC = "52:54:00:00:06:01"
	spec := hypervisor.Spec{UUID: uuid, Name: "m", CPUs: 1, MemoryBytes: 32 << 20, NICs: []hypervisor.NIC{nic}}
	if err := f.driver.Define(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	if err := f.driver.Start(t.Context(), uuid); err != nil {
		t.Fatal(err)
	}
	if err := change(""); !fault.Is(err, fault.FailedPrecondition) || gateway() != want || f.subnet("m").GetIpv6Gateway() != "fd00:6::1/64" {
		t.Errorf("while it runs: %v, %v", gateway(), err)
	}
	if _, err := f.allocate("2", "m", "fd00:6::a"); err != nil {
		t.Errorf("after the refusal: %v", err)
	}
	if err := f.driver.Kill(t.Context(), uuid); err != nil {
		t.Fatal(err)
	}
	f.Release("2")
	if err := change(""); err != nil || gateway().IsValid() {
		t.Errorf("stopped again: %v, %v", gateway(), err)
	}
}
