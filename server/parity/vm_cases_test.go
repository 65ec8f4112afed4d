package parity_test

import (
	"context"
	"net/netip"
	"slices"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/server/config"
)

// withSecondSubnet gives a server one more subnet.
func withSecondSubnet(c *config.Config) {
	c.Subnets = append(c.Subnets, config.Subnet{
		ID: "second", Bridge: "second0", Gateway: netip.MustParsePrefix("10.89.0.1/24"),
		First: netip.MustParseAddr("10.89.0.10"), Last: netip.MustParseAddr("10.89.0.20"),
	})
}

// vmOf makes a VM like vm does, but another caller's or another kind of VM.
func (w *world) vmOf(ctx context.Context, cc *grpc.ClientConn, s *hypervisorv1.CreateVmSpec) string {
	w.t.Helper()
	res, err := hypervisorv1.NewVmServiceClient(cc).CreateVmAsync(ctx, &hypervisorv1.CreateVmAsyncRequest{Spec: s})
	if err != nil {
		w.t.Fatal(err)
	}
	vm := res.GetVmInfo().GetAddress().GetIpAddress()
	w.settled(ctx, vm, hypervisorv1.State_STATE_STOPPED)
	return vm
}

// onInfo is a case whose effect is seen in GetVmInfo. The request's vm field is filled in.
func onInfo(running bool, template proto.Message, effect func(*hypervisorv1.VmInfo) bool) unaryCase {
	return unaryCase{
		func(ctx context.Context, w *world) proto.Message { return naming(template, w.vm(ctx, running)) },
		func(ctx context.Context, t *testing.T, w *world, req, _ proto.Message) {
			t.Helper()
			if info := w.info(ctx, req.(interface{ GetVm() string }).GetVm()); !effect(info) {
				t.Errorf("info: %v", info)
			}
		},
	}
}

// vmCases are those of what a VM is.
func vmCases() map[string]unaryCase {
	cases := map[string]unaryCase{
		"AcknowledgeVm": onInfo(true, &hypervisorv1.AcknowledgeVmRequest{}, func(i *hypervisorv1.VmInfo) bool {
			return i.GetState() == hypervisorv1.State_STATE_RUNNING
		}),
		"ChangeVmConsoleType": onInfo(false, &hypervisorv1.ChangeVmConsoleTypeRequest{ConsoleType: hypervisorv1.ConsoleType_CONSOLE_TYPE_DUMMY},
			func(i *hypervisorv1.VmInfo) bool {
				return i.GetConsoleType() == hypervisorv1.ConsoleType_CONSOLE_TYPE_DUMMY
			}),
		"ChangeVmCpuPriority": onInfo(true, &hypervisorv1.ChangeVmCpuPriorityRequest{CpuPriority: -5},
			func(i *hypervisorv1.VmInfo) bool { return i.GetCpuPriority() == -5 }),
		"ChangeVmDestroyProtection": onInfo(true, &hypervisorv1.ChangeVmDestroyProtectionRequest{DestroyProtection: true},
			func(i *hypervisorv1.VmInfo) bool { return i.GetDestroyProtection() }),
		"ChangeVmMachineType": onInfo(false, &hypervisorv1.ChangeVmMachineTypeRequest{MachineType: hypervisorv1.MachineType_MACHINE_TYPE_PC},
			func(i *hypervisorv1.VmInfo) bool {
				return i.GetMachineType() == hypervisorv1.MachineType_MACHINE_TYPE_PC
			}),
		"ChangeVmNumNetworkQueues": onInfo(false, &hypervisorv1.ChangeVmNumNetworkQueuesRequest{NumQueuesPerInterface: []uint32{2}},
			func(i *hypervisorv1.VmInfo) bool {
				return len(i.GetNetworkEntries()) == 1 && i.GetNetworkEntries()[0].GetNumQueues() == 2
			}),
		"ChangeVmOwnerGroups": onInfo(true, &hypervisorv1.ChangeVmOwnerGroupsRequest{OwnerGroups: []string{"x", "y"}},
			func(i *hypervisorv1.VmInfo) bool { return slices.Equal(i.GetOwnerGroups(), []string{"x", "y"}) }),
		"BecomePrimaryVmOwner": becomePrimaryOwner(),
		"ChangeVmHostname":     changeHostname(),
		"ChangeVmSubnet":       changeSubnet(),
		"GetVmCreateRequest":   getCreateRequest(),
	}
	return cases
}

func becomePrimaryOwner() unaryCase {
	return unaryCase{
		func(ctx context.Context, w *world) proto.Message {
			return &hypervisorv1.BecomePrimaryVmOwnerRequest{Vm: w.vmOf(ctx, w.DialAs(w.ClientCertificate("bob")), spec(false))}
		},
		func(ctx context.Context, t *testing.T, w *world, req, _ proto.Message) {
			t.Helper()
			owners := w.info(ctx, req.(*hypervisorv1.BecomePrimaryVmOwnerRequest).GetVm()).GetOwnerUsers()
			if !slices.Equal(owners, []string{"admin", "bob"}) {
				t.Errorf("owners: %v", owners)
			}
		},
	}
}

// changeHostname gives each VM a name of its own: the VMs of a subnet need different ones.
func changeHostname() unaryCase {
	return unaryCase{
		func(ctx context.Context, w *world) proto.Message {
			vm := w.vm(ctx, true)
			return &hypervisorv1.ChangeVmHostnameRequest{Vm: vm, Hostname: "web-" + w.info(ctx, vm).GetUuid()}
		},
		func(ctx context.Context, t *testing.T, w *world, req, _ proto.Message) {
			t.Helper()
			r := req.(*hypervisorv1.ChangeVmHostnameRequest)
			if info := w.info(ctx, r.GetHostname()); info.GetAddress().GetIpAddress() != r.GetVm() {
				t.Errorf("%s names %v", r.GetHostname(), info)
			}
		},
	}
}

func changeSubnet() unaryCase {
	return unaryCase{
		func(ctx context.Context, w *world) proto.Message {
			s := spec(false)
			s.VmInfo.SubnetId = "default"
			return &hypervisorv1.ChangeVmSubnetRequest{Vm: w.vmOf(ctx, w.cc, s), SubnetId: "second"}
		},
		func(ctx context.Context, t *testing.T, w *world, req, res proto.Message) {
			t.Helper()
			vm := as(t, res, &hypervisorv1.ChangeVmSubnetResponse{}).GetNewIpAddress()
			if info := w.info(ctx, vm); vm != "10.89.0.10" || info.GetSubnetId() != "second" {
				t.Errorf("moved to %s: %v", vm, info)
			}
			old := &hypervisorv1.GetVmInfoRequest{Vm: req.(*hypervisorv1.ChangeVmSubnetRequest).GetVm()}
			if _, err := w.vms().GetVmInfo(ctx, old); status.Code(err) != codes.NotFound {
				t.Errorf("at the old address: %v", err)
			}
		},
	}
}

func getCreateRequest() unaryCase {
	return unaryCase{
		func(ctx context.Context, w *world) proto.Message {
			return &hypervisorv1.GetVmCreateRequestRequest{Vm: w.vm(ctx, false)}
		},
		func(_ context.Context, t *testing.T, _ *world, _, res proto.Message) {
			t.Helper()
			r := as(t, res, &hypervisorv1.GetVmCreateRequestResponse{}).GetCreateVmRequest()
			if r.GetMinimumFreeBytes() != 1<<20 || !r.GetDoNotStart() || r.GetVmInfo().GetMilliCpus() != 250 || r.GetVmInfo().GetUuid() != "" {
				t.Errorf("request: %v", r)
			}
		},
	}
}
