package vm_test

import (
	"context"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
	"github.com/hyperplane-project/hyperplane/server/network"
	"github.com/hyperplane-project/hyperplane/server/vm"
)

func (f *fixture) setConsole(id string, c hypervisorv1.ConsoleType) error {
	_, err := f.ChangeVmConsoleType(f.t.Context(), &hypervisorv1.ChangeVmConsoleTypeRequest{Vm: id, ConsoleType: c})
	return err
}

func (f *fixture) setMachine(id string, m hypervisorv1.MachineType) error {
	_, err := f.ChangeVmMachineType(f.t.Context(), &hypervisorv1.ChangeVmMachineTypeRequest{Vm: id, MachineType: m})
	return err
}

func (f *fixture) setQueues(id string, queues ...uint32) error {
	_, err := f.ChangeVmNumNetworkQueues(f.t.Context(), &hypervisorv1.ChangeVmNumNetworkQueuesRequest{Vm: id, NumQueuesPerInterface: queues})
	return err
}

// unchanged expects that neither the record nor the machine changes.
func (f *fixture) unchanged(id, what string, do func() error, code fault.Code) {
	f.t.Helper()
	before, machine := proto.CloneOf(f.info(id)), f.machine(id)
	f.expect(what, do(), code)
	if diff := cmp.Diff(before, f.info(id), protocmp.Transform()); diff != "" {
		f.t.Errorf("%s: the record changed:\n%s", what, diff)
	}
	if diff := cmp.Diff(machine, f.machine(id)); diff != "" {
		f.t.Errorf("%s: the machine changed:\n%s", what, diff)
	}
}

func TestShapeOfAStoppedVM(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	id := f.vm(false, func(i *hypervisorv1.VmInfo) { i.SecondarySubnetIds = []string{"a", "b"} })
	f.must(f.setConsole(id, hypervisorv1.ConsoleType_CONSOLE_TYPE_VNC))
	f.must(f.setMachine(id, hypervisorv1.MachineType_MACHINE_TYPE_PC))
	f.must(f.setQueues(id, 4, 2))
	m := f.machine(id)
	if m.Console != hypervisor.ConsoleVNC || m.Machine != hypervisor.MachinePC || m.NICs[0].Queues != 4 || m.NICs[1].Queues != 2 || m.NICs[2].Queues != 0 {
		t.Errorf("machine: %+v", m)
	}
	f.must(f.setQueues(id, 3))
	if e := f.info(id).GetNetworkEntries(); len(e) != 3 || e[0].GetNumQueues() != 3 || e[1].GetNumQueues() != 0 {
		t.Errorf("entries: %v", e)
	}
	for what, do := range map[string]func() error{
		"more queues than cards": func() error { return f.setQueues(id, 1, 1, 1, 1) },
		"too many queues":        func() error { return f.setQueues(id, 257) },
		"a board of arm64":       func() error { return f.setMachine(id, hypervisorv1.MachineType_MACHINE_TYPE_VIRT) },
		"no such board":          func() error { return f.setMachine(id, 258) },
		"no such console":        func() error { return f.setConsole(id, 258) },
	} {
		f.unchanged(id, what, do, fault.InvalidArgument)
	}
	f.store.broken.Store(true)
	f.unchanged(id, "full disk", func() error { return f.setMachine(id, hypervisorv1.MachineType_MACHINE_TYPE_Q35) }, fault.ResourceExhausted)
	f.store.broken.Store(false)

	_, err := f.StartVm(t.Context(), &hypervisorv1.StartVmRequest{Vm: id})
	f.must(err)
	for what, do := range map[string]func() error{
		"console": func() error { return f.setConsole(id, 0) },
		"machine": func() error { return f.setMachine(id, 0) },
		"queues":  func() error { return f.setQueues(id) },
		"subnet":  func() error { _, err := f.setSubnet(id, "b"); return err },
	} {
		f.unchanged(id, what+" of a running VM", do, fault.FailedPrecondition)
	}
}

func (f *fixture) setSubnet(id, subnet string) (*hypervisorv1.ChangeVmSubnetResponse, error) {
	return f.ChangeVmSubnet(f.as(false), &hypervisorv1.ChangeVmSubnetRequest{Vm: id, SubnetId: subnet})
}

// dropping notes whose identity is dropped.
type dropping struct {
	vm.Identity
	dropped []string
}

func (d *dropping) Drop(_ context.Context, uuid string) error {
	d.dropped = append(d.dropped, uuid)
	return nil
}

func TestSubnet(t *testing.T) {
	t.Parallel()
	var identities dropping
	f := newFixture(t, func(d *vm.Deps) { d.Identity = &identities })
	id := f.vm(false, func(i *hypervisorv1.VmInfo) { i.SecondarySubnetIds = []string{"a"} })
	_, err := f.registry.Change(t.Context(), id, func(r *hypervisorv1.LocalVmInfo) error {
		r.VmInfo.IdentityName, r.VmInfo.IdentityExpires = "robot", timestamppb.Now()
		return nil
	})
	f.must(err)
	f.must(f.setConsole(id, hypervisorv1.ConsoleType_CONSOLE_TYPE_DUMMY)) // the machine is defined now
	for what, c := range map[string]struct {
		subnet string
		code   fault.Code
	}{"none": {"", fault.InvalidArgument}, "unknown": {"x", fault.NotFound}, "its own": {"a", fault.FailedPrecondition}} {
		f.unchanged(id, what, func() error { _, err := f.setSubnet(id, c.subnet); return err }, c.code)
	}
	f.host.FailNext("Define", fault.New(fault.Internal, "libvirt is ill"))
	f.unchanged(id, "Define fails", func() error { _, err := f.setSubnet(id, "b"); return err }, fault.Internal)
	f.store.broken.Store(true)
	f.unchanged(id, "full disk", func() error { _, err := f.setSubnet(id, "b"); return err }, fault.ResourceExhausted)
	f.store.broken.Store(false)

	res, err := f.setSubnet(id, "b")
	f.must(err)
	info := f.info(id)
	if res.GetNewIpAddress() != "10.7.2.2" || res.GetOldIdentityName() != "robot" || info.GetSubnetId() != "b" ||
		info.GetIdentityName() != "" || info.GetIdentityExpires() != nil || f.machine(id).NICs[0].MAC != info.GetAddress().GetMacAddress() {
		t.Errorf("moved: %v; %v", res, info)
	}
	if f.info("10.7.2.2").GetUuid() != id || !slices.Equal(identities.dropped, []string{id}) {
		t.Errorf("the new address does not name it, or its identity was not dropped once: %v", identities.dropped)
	}
	if _, err := f.registry.Info("10.7.1.2"); !fault.Is(err, fault.NotFound) {
		t.Errorf("the old address: %v", err)
	}
	// The old address is free, the secondary one is not, and no attempt has kept one.
	for _, want := range []string{"10.7.1.2", "10.7.1.4"} {
		if a, _, err := f.network.Allocate(network.Request{UUID: "x", SubnetID: "a"}); err != nil || a.GetIpAddress() != want {
			t.Errorf("free in a: %v, %v, not %s", a, err, want)
		}
	}
	if a, _, err := f.network.Allocate(network.Request{UUID: "x", SubnetID: "b"}); err != nil || a.GetIpAddress() != "10.7.2.3" {
		t.Errorf("free in b: %v, %v", a, err)
	}
	other := f.vm(false, nil)
	_, err = f.setSubnet(other, "b")
	f.expect("full subnet", err, fault.ResourceExhausted)
}
