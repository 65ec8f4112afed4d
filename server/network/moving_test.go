package network_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/server/network"
)

// inPool checks which addresses of the subnet a are in the pool, by their last bytes, and how many of them are free.
func (f *fixture) inPool(when string, free uint32, want ...string) {
	f.t.Helper()
	first, subscription := f.Feed.Subscribe(0)
	subscription.Close()
	var all []string
	for _, a := range first.GetAddressPool().GetAddresses() {
		if last, of := strings.CutPrefix(a.GetIpAddress(), "10.7.1."); of {
			all = append(all, last)
		}
	}
	slices.Sort(all)
	if n := first.GetAddressPool().GetNumFreeAddresses()["a"]; !slices.Equal(all, want) || n != free {
		f.t.Errorf("%s: %v, of which %d are free; want %v, %d", when, all, n, want, free)
	}
}

// TestAddressesMove takes VMs with an address of the range and with one that was added to another host and back: as long as they are there, nobody here gets
// their addresses, not after a restart either, and when they end here the addresses are free.
func TestAddressesMove(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	arrive := func() {
		t.Helper()
		for i, last := range []int{3, 9} {
			if _, _, err := f.Allocate(network.Request{UUID: fmt.Sprint(i), Want: &hypervisorv1.Address{IpAddress: fmt.Sprintf("10.7.1.%d", last)}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	_, err := f.ChangeAddressPool(t.Context(), &hypervisorv1.ChangeAddressPoolRequest{
		AddressesToAdd: []*hypervisorv1.Address{{IpAddress: "10.7.1.9", MacAddress: "52:54:00:00:00:09"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	arrive()
	f.inPool("before", 2, "2", "3", "4", "9")
	f.store.broken = true
	if err := f.Surrender(t.Context(), "1"); err == nil {
		t.Error("surrendered without being kept")
	}
	f.store.broken = false
	f.inPool("not kept", 2, "2", "3", "4", "9")
	for _, uuid := range []string{"0", "1"} {
		if err := f.Surrender(t.Context(), uuid); err != nil {
			t.Fatal(err)
		}
	}
	f.inPool("gone", 2, "2", "4")
	f.restart()
	f.inPool("gone, after a restart", 2, "2", "4")
	arrive()
	f.inPool("on the way back", 2, "2", "3", "4", "9")
	for _, uuid := range []string{"0", "1"} {
		if err := f.Adopt(t.Context(), uuid); err != nil {
			t.Fatal(err)
		}
		f.Release(uuid)
	}
	f.inPool("ended", 4, "2", "3", "4", "9")
	f.restart()
	f.inPool("ended, after a restart", 4, "2", "3", "4", "9")
}
