package vm_test

import (
	"context"
	"slices"
	"testing"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/principal"
)

func TestOwners(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	id := f.vm(false, nil)
	bob := principal.WithCaller(t.Context(), principal.Caller{Principal: principal.Principal{Name: "bob"}})
	become := func(ctx context.Context) error {
		_, err := f.BecomePrimaryVmOwner(ctx, &hypervisorv1.BecomePrimaryVmOwnerRequest{Vm: id})
		return err
	}
	f.expect("already", become(f.as(false)), fault.FailedPrecondition)
	f.must(become(bob))
	if got := f.info(id).GetOwnerUsers(); !slices.Equal(got, []string{"bob", "alice"}) {
		t.Errorf("owners: %v", got)
	}
	f.must(become(f.as(false)))
	if got := f.info(id).GetOwnerUsers(); !slices.Equal(got, []string{"alice", "bob"}) {
		t.Errorf("owners: %v", got)
	}
	f.expect("nobody", become(t.Context()), fault.InvalidArgument)

	_, err := f.ChangeVmOwnerGroups(t.Context(), &hypervisorv1.ChangeVmOwnerGroupsRequest{Vm: id, OwnerGroups: []string{"x", "y", "x"}})
	f.must(err)
	_, err = f.ChangeVmOwnerGroups(t.Context(), &hypervisorv1.ChangeVmOwnerGroupsRequest{Vm: id, OwnerGroups: []string{"z", ""}})
	f.expect("empty group", err, fault.InvalidArgument)
	if got := f.info(id).GetOwnerGroups(); !slices.Equal(got, []string{"x", "y"}) {
		t.Errorf("groups: %v", got)
	}
}

func TestDestroyProtection(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	id := f.vm(true, nil)
	protect := func(on bool) {
		t.Helper()
		_, err := f.ChangeVmDestroyProtection(t.Context(), &hypervisorv1.ChangeVmDestroyProtectionRequest{Vm: id, DestroyProtection: on})
		f.must(err)
	}
	destroy := func() error {
		_, err := f.DestroyVm(t.Context(), &hypervisorv1.DestroyVmRequest{Vm: id})
		return err
	}
	protect(true)
	f.expect("destroy", destroy(), fault.FailedPrecondition)
	protect(false)
	f.must(destroy())
}

func TestHostname(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	id := f.vm(true, func(i *hypervisorv1.VmInfo) { i.Hostname = "old" })
	rename := func(to string) error {
		_, err := f.ChangeVmHostname(t.Context(), &hypervisorv1.ChangeVmHostnameRequest{Vm: id, Hostname: to})
		return err
	}
	leased := func() string {
		_, leases, _ := f.host.Network("hyperplane-a")
		for _, l := range leases {
			if l.Address.String() == f.info(id).GetAddress().GetIpAddress() {
				return l.Hostname
			}
		}
		return "nobody"
	}
	for _, bad := range []string{"no spaces", "-x", "a..b", "ü"} {
		f.expect(bad, rename(bad), fault.InvalidArgument)
	}
	f.must(rename("new.example"))
	if f.info("new.example").GetUuid() != id || leased() != "new.example" {
		t.Errorf("renamed: %v, leased to %q", f.info(id), leased())
	}
	if _, err := f.registry.Info("old"); !fault.Is(err, fault.NotFound) {
		t.Errorf("the old name: %v", err)
	}

	// Several VMs may have one name; the DHCP server tells it to one of them.
	f.vm(false, func(i *hypervisorv1.VmInfo) { i.Hostname = "shared" })
	f.must(rename("shared"))
	f.must(rename("new.example"))
	f.host.FailNext("SetLeases", fault.New(fault.Unavailable, "no DHCP"))
	f.expect("without DHCP", rename("third"), fault.Unavailable)
	f.store.broken.Store(true)
	f.expect("without a store", rename("third"), fault.ResourceExhausted)
	f.store.broken.Store(false)
	if f.info(id).GetHostname() != "new.example" || leased() != "new.example" {
		t.Errorf("not taken back: %v, leased to %q", f.info(id), leased())
	}
	_, err := f.StopVm(t.Context(), &hypervisorv1.StopVmRequest{Vm: id})
	f.must(err)
	f.must(rename("fourth"))
	_, err = f.StartVm(t.Context(), &hypervisorv1.StartVmRequest{Vm: id})
	f.must(err)
	if leased() != "fourth" || f.machine(id).Name != "fourth-"+id[:8] {
		t.Errorf("after a start: leased to %q, machine %q", leased(), f.machine(id).Name)
	}
}
