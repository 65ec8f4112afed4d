package parity_test

import (
	"context"
	"testing"

	"google.golang.org/protobuf/proto"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
)

// volumeCases are those of a VM's volumes and snapshots.
func volumeCases() map[string]unaryCase {
	// after checks the volumes of the VM that the request names.
	after := func(check func(t *testing.T, volumes []*hypervisorv1.Volume)) func(context.Context, *testing.T, *world, proto.Message, proto.Message) {
		return func(ctx context.Context, t *testing.T, w *world, req, _ proto.Message) {
			t.Helper()
			named := req.(interface{ GetVm() string }) //nolint:forcetypeassert // all these requests name a VM
			check(t, w.info(ctx, named.GetVm()).GetVolumes())
		}
	}
	sizes := func(want ...uint64) func(*testing.T, []*hypervisorv1.Volume) {
		return func(t *testing.T, volumes []*hypervisorv1.Volume) {
			t.Helper()
			if len(volumes) != len(want)+1 {
				t.Fatalf("volumes: %v", volumes)
			}
			for i, v := range volumes[1:] {
				if v.GetVirtualSize() != want[i] {
					t.Errorf("volume %d has %d bytes, want %d", i+1, v.GetVirtualSize(), want[i])
				}
			}
		}
	}
	snapshots := func(want int) func(*testing.T, []*hypervisorv1.Volume) {
		return func(t *testing.T, volumes []*hypervisorv1.Volume) {
			t.Helper()
			if n := len(volumes[0].GetSnapshots()); n != want {
				t.Errorf("%d snapshots, want %d", n, want)
			}
		}
	}
	return map[string]unaryCase{
		"AddVmVolumes": {
			func(ctx context.Context, w *world) proto.Message {
				return &hypervisorv1.AddVmVolumesRequest{Vm: w.vm(ctx, true), VolumeSizes: []uint64{4096, 8192}}
			},
			after(sizes(4096, 8192)),
		},
		"DeleteVmVolume": {
			func(ctx context.Context, w *world) proto.Message {
				return &hypervisorv1.DeleteVmVolumeRequest{Vm: w.vmWith(ctx, 4096, 8192), VolumeIndex: 1}
			},
			after(sizes(8192)),
		},
		"ReorderVmVolumes": {
			func(ctx context.Context, w *world) proto.Message {
				return &hypervisorv1.ReorderVmVolumesRequest{Vm: w.vmWith(ctx, 4096, 8192), VolumeIndices: []uint32{2, 1}}
			},
			after(sizes(8192, 4096)),
		},
		"ChangeVmVolumeSize": {
			func(ctx context.Context, w *world) proto.Message {
				return &hypervisorv1.ChangeVmVolumeSizeRequest{Vm: w.vmWith(ctx, 4096), VolumeIndex: 1, VolumeSize: 1 << 20}
			},
			after(sizes(1 << 20)),
		},
		"GetVmVolumeStorageConfiguration": {
			func(ctx context.Context, w *world) proto.Message {
				return &hypervisorv1.GetVmVolumeStorageConfigurationRequest{Vm: w.vmWith(ctx, 4096)}
			},
			func(_ context.Context, t *testing.T, _ *world, _, res proto.Message) {
				t.Helper()
				c := as(t, res, &hypervisorv1.GetVmVolumeStorageConfigurationResponse{})
				if len(c.GetStorageInfos()) != 1 || c.GetStorageInfos()[0].GetSizeBytes() == 0 || len(c.GetVolumeStorageIndices()) != 2 {
					t.Errorf("storage: %v", c)
				}
			},
		},
		"SnapshotVm": {
			func(ctx context.Context, w *world) proto.Message {
				return &hypervisorv1.SnapshotVmRequest{Vm: w.vm(ctx, true), Name: "monday", ForceIfNotStopped: true}
			},
			after(snapshots(1)),
		},
		"RestoreVmFromSnapshot": {
			func(ctx context.Context, w *world) proto.Message {
				return &hypervisorv1.RestoreVmFromSnapshotRequest{Vm: w.snapshot(ctx), Name: "monday", Retain: true}
			},
			after(snapshots(1)),
		},
		"DiscardVmSnapshot": {
			func(ctx context.Context, w *world) proto.Message {
				return &hypervisorv1.DiscardVmSnapshotRequest{Vm: w.snapshot(ctx), Name: "monday"}
			},
			after(snapshots(0)),
		},
	}
}

// vmWith makes a stopped VM with more volumes of the given sizes.
func (w *world) vmWith(ctx context.Context, sizes ...uint64) string {
	w.t.Helper()
	vm := w.vm(ctx, false)
	_, err := hypervisorv1.NewVolumeServiceClient(w.cc).AddVmVolumes(ctx, &hypervisorv1.AddVmVolumesRequest{Vm: vm, VolumeSizes: sizes})
	if err != nil {
		w.t.Fatal(err)
	}
	return vm
}

// snapshot makes a stopped VM with a snapshot.
func (w *world) snapshot(ctx context.Context) string {
	w.t.Helper()
	vm := w.vm(ctx, false)
	_, err := hypervisorv1.NewSnapshotServiceClient(w.cc).SnapshotVm(ctx, &hypervisorv1.SnapshotVmRequest{Vm: vm, Name: "monday"})
	if err != nil {
		w.t.Fatal(err)
	}
	return vm
}
