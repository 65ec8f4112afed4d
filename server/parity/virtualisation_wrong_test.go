package parity_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

func wrongsOfVirtualisation() map[string]wrong {
	const none = "no such domain"
	vm := func(req func(vm string) proto.Message, says string) wrong {
		return wrong{func(ctx context.Context, w *world) proto.Message { return req(w.vm(ctx, false)) }, codes.FailedPrecondition, says}
	}
	return map[string]wrong{
		"ListDomains":         fixed(&hypervisorv1.ListDomainsRequest{PageToken: "?"}, codes.InvalidArgument, "page_token"),
		"GetDomain":           fixed(&hypervisorv1.GetDomainRequest{Domain: none}, codes.NotFound, none),
		"StartDomain":         fixed(&hypervisorv1.StartDomainRequest{Domain: none}, codes.NotFound, none),
		"ShutdownDomain":      vm(func(vm string) proto.Message { return &hypervisorv1.ShutdownDomainRequest{Domain: vm} }, "it is stopped"),
		"KillDomain":          fixed(&hypervisorv1.KillDomainRequest{}, codes.InvalidArgument, "domain"),
		"RebootDomain":        vm(func(vm string) proto.Message { return &hypervisorv1.RebootDomainRequest{Domain: vm} }, "it is stopped"),
		"PauseDomain":         vm(func(vm string) proto.Message { return &hypervisorv1.PauseDomainRequest{Domain: vm} }, "StopVm"),
		"ResumeDomain":        vm(func(vm string) proto.Message { return &hypervisorv1.ResumeDomainRequest{Domain: vm} }, "StartVm"),
		"SendDomainKeys":      fixed(&hypervisorv1.SendDomainKeysRequest{Domain: none, Keys: []string{"KEY_NONSENSE"}}, codes.InvalidArgument, "KEY_NONSENSE"),
		"GetDomainScreenshot": vm(func(vm string) proto.Message { return &hypervisorv1.GetDomainScreenshotRequest{Domain: vm} }, "was not started"),
		"GetDomainConsole":    fixed(&hypervisorv1.GetDomainConsoleRequest{Domain: none}, codes.NotFound, none),
		"ListDomainSnapshots": fixed(&hypervisorv1.ListDomainSnapshotsRequest{Domain: none}, codes.NotFound, none),
		"CreateDomainSnapshot": fixed(&hypervisorv1.CreateDomainSnapshotRequest{Domain: none, Name: "../x"}, codes.InvalidArgument,
			"name"),
		"RevertDomainSnapshot": {func(ctx context.Context, w *world) proto.Message {
			return &hypervisorv1.RevertDomainSnapshotRequest{Domain: w.domain(ctx, false), Name: "nothing"}
		}, codes.NotFound, "nothing"},
		"DeleteDomainSnapshot": fixed(&hypervisorv1.DeleteDomainSnapshotRequest{Domain: none, Name: "x"}, codes.NotFound, none),
		"ListDomainInterfaces": fixed(&hypervisorv1.ListDomainInterfacesRequest{Domain: none}, codes.NotFound, none),
		"AttachDomainInterface": vm(func(vm string) proto.Message {
			return &hypervisorv1.AttachDomainInterfaceRequest{Domain: vm, Bridge: "br0"}
		},
			"ChangeVmSubnet"),
		"DetachDomainInterface": fixed(&hypervisorv1.DetachDomainInterfaceRequest{Domain: none, MacAddress: "x"}, codes.InvalidArgument, "mac_address"),
		"ListStoragePools":      fixed(&hypervisorv1.ListStoragePoolsRequest{PageToken: "?"}, codes.InvalidArgument, "page_token"),
		"GetStoragePool":        fixed(&hypervisorv1.GetStoragePoolRequest{Pool: "nowhere"}, codes.NotFound, "nowhere"),
		"CreateStoragePool":     fixed(&hypervisorv1.CreateStoragePoolRequest{Name: "etc", Path: "/etc"}, codes.FailedPrecondition, "/etc"),
		"StartStoragePool":      fixed(&hypervisorv1.StartStoragePoolRequest{Pool: "nowhere"}, codes.NotFound, "nowhere"),
		"StopStoragePool":       fixed(&hypervisorv1.StopStoragePoolRequest{Pool: "nowhere"}, codes.NotFound, "nowhere"),
		"RefreshStoragePool":    fixed(&hypervisorv1.RefreshStoragePoolRequest{Pool: "nowhere"}, codes.NotFound, "nowhere"),
		"DeleteStoragePool":     fixed(&hypervisorv1.DeleteStoragePoolRequest{}, codes.InvalidArgument, "pool"),
		"ListStorageVolumes":    fixed(&hypervisorv1.ListStorageVolumesRequest{Pool: "nowhere"}, codes.NotFound, "nowhere"),
		"GetStorageVolume":      fixed(&hypervisorv1.GetStorageVolumeRequest{Pool: "nowhere", Volume: "v"}, codes.NotFound, "nowhere"),
		"CreateStorageVolume":   fixed(&hypervisorv1.CreateStorageVolumeRequest{Pool: "nowhere", Name: "a/b", Capacity: 512}, codes.InvalidArgument, "name"),
		"CloneStorageVolume":    fixed(&hypervisorv1.CloneStorageVolumeRequest{Pool: "p", Volume: "v"}, codes.InvalidArgument, "target_volume"),
		"ResizeStorageVolume":   fixed(&hypervisorv1.ResizeStorageVolumeRequest{Pool: "p", Volume: "v", Capacity: 1}, codes.InvalidArgument, "capacity"),
		"DeleteStorageVolume": {func(ctx context.Context, w *world) proto.Message {
			pool := w.storagePool(ctx)
			v := w.storageVolume(ctx, pool, 0)
			id := uuid.NewString()
			spec := hypervisor.Spec{UUID: id, Name: "user " + id, CPUs: 1, MemoryBytes: 64 << 20, Disks: []hypervisor.Disk{{File: v.GetPath()}}}
			w.onHost(func(d hypervisor.Driver) error { return d.Define(ctx, spec) })
			return &hypervisorv1.DeleteStorageVolumeRequest{Pool: pool, Volume: "vol 1"}
		}, codes.FailedPrecondition, "user "},
		"WipeStorageVolume": fixed(&hypervisorv1.WipeStorageVolumeRequest{Pool: "nowhere", Volume: "v"}, codes.NotFound, "nowhere"),
		"UploadStorageVolume": fixed(&hypervisorv1.UploadStorageVolumeRequest{Part: &hypervisorv1.UploadStorageVolumeRequest_Target{
			Target: &hypervisorv1.UploadStorageVolumeTarget{Pool: "p", Volume: "v", ImageFile: "../../etc/passwd"},
		}}, codes.InvalidArgument, "image_file"),
		"DownloadStorageVolume": fixed(&hypervisorv1.DownloadStorageVolumeRequest{Pool: "nowhere", Volume: "v"}, codes.NotFound, "nowhere"),
		"ListVirtualNetworks":   fixed(&hypervisorv1.ListVirtualNetworksRequest{PageToken: "?"}, codes.InvalidArgument, "page_token"),
		"GetVirtualNetwork":     fixed(&hypervisorv1.GetVirtualNetworkRequest{Network: "nowhere"}, codes.NotFound, "nowhere"),
		"CreateVirtualNetwork":  fixed(&hypervisorv1.CreateVirtualNetworkRequest{Name: "n", Subnet: "<x>"}, codes.InvalidArgument, "subnet"),
		"StartVirtualNetwork":   fixed(&hypervisorv1.StartVirtualNetworkRequest{Network: "nowhere"}, codes.NotFound, "nowhere"),
		"StopVirtualNetwork": {func(ctx context.Context, w *world) proto.Message {
			w.vm(ctx, true)
			return &hypervisorv1.StopVirtualNetworkRequest{Network: "hyperplane-default"}
		}, codes.FailedPrecondition, "UpdateSubnets"},
		"DeleteVirtualNetwork": fixed(&hypervisorv1.DeleteVirtualNetworkRequest{Network: "nowhere"}, codes.NotFound, "nowhere"),
		"GetHostStats":         fixed(&hypervisorv1.GetHostStatsRequest{Wait: durationpb.New(-time.Second)}, codes.InvalidArgument, "wait"),
		"GetDomainStats":       fixed(&hypervisorv1.GetDomainStatsRequest{Domain: none}, codes.NotFound, none),
		"ListDomainStats":      fixed(&hypervisorv1.ListDomainStatsRequest{PageToken: "?"}, codes.InvalidArgument, "page_token"),
	}
}

// TestDomainsThatAreVMs changes VMs as domains and looks whether their records are true.
func TestDomainsThatAreVMs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	vm := w.vm(ctx, false)
	id := w.info(ctx, vm).GetUuid()
	started, err := w.virt().StartDomain(ctx, &hypervisorv1.StartDomainRequest{Domain: vm})
	if err != nil {
		t.Fatal(err)
	}
	if d := started.GetDomain(); d.GetState() != running || !d.GetManaged() || d.GetUuid() != id || d.GetVmIpAddress() != vm {
		t.Errorf("started: %v", d)
	}
	if got := w.info(ctx, vm).GetState(); got != hypervisorv1.State_STATE_RUNNING {
		t.Errorf("the VM is %v", got)
	}
	if _, err := w.virt().CreateDomainSnapshot(ctx, &hypervisorv1.CreateDomainSnapshotRequest{Domain: id, Name: "live"}); err != nil {
		t.Error(err)
	}
	if _, err := w.virt().RevertDomainSnapshot(ctx, &hypervisorv1.RevertDomainSnapshotRequest{Domain: id, Name: "live"}); err != nil {
		t.Error(err)
	}
	if _, kept := w.info(ctx, vm).GetVolumes()[0].GetSnapshots()["live"]; !kept {
		t.Error("reverting has removed the snapshot")
	}
	if _, err := w.virt().DeleteDomainSnapshot(ctx, &hypervisorv1.DeleteDomainSnapshotRequest{Domain: id, Name: "live"}); err != nil {
		t.Error(err)
	}
	for what, call := range map[string]func() error{
		"pause": func() error {
			_, err := w.virt().PauseDomain(ctx, &hypervisorv1.PauseDomainRequest{Domain: id})
			return err
		},
		"detach": func() error {
			_, err := w.virt().DetachDomainInterface(ctx, &hypervisorv1.DetachDomainInterfaceRequest{Domain: id, MacAddress: "52:54:00:00:00:01"})
			return err
		},
	} {
		if err := call(); status.Code(err) != codes.FailedPrecondition {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := w.virt().KillDomain(ctx, &hypervisorv1.KillDomainRequest{Domain: id}); err != nil {
		t.Fatal(err)
	}
	if got := w.info(ctx, vm).GetState(); got != hypervisorv1.State_STATE_STOPPED {
		t.Errorf("the VM is %v", got)
	}
}
