package parity_test

import (
	"context"
	"path/filepath"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
)

// gone is nil if an error says that something is not there.
func gone(err error) error {
	if status.Code(err) == codes.NotFound {
		return nil
	}
	return status.Error(codes.Unknown, "it is still there: "+status.Convert(err).Message())
}

func (w *world) poolState(ctx context.Context, name string) hypervisorv1.StoragePoolState {
	w.t.Helper()
	res, err := w.virt().GetStoragePool(ctx, &hypervisorv1.GetStoragePoolRequest{Pool: name})
	if err != nil {
		w.t.Fatal(err)
	}
	return res.GetPool().GetState()
}

func (w *world) stoppedPool(ctx context.Context) string {
	w.t.Helper()
	name := w.storagePool(ctx)
	if _, err := w.virt().StopStoragePool(ctx, &hypervisorv1.StopStoragePoolRequest{Pool: name}); err != nil {
		w.t.Fatal(err)
	}
	return name
}

func (w *world) stoppedNetwork(ctx context.Context) string {
	w.t.Helper()
	name := w.virtualNetwork(ctx)
	if _, err := w.virt().StopVirtualNetwork(ctx, &hypervisorv1.StopVirtualNetworkRequest{Network: name}); err != nil {
		w.t.Fatal(err)
	}
	return name
}

func (w *world) networkNow(ctx context.Context, name string) *hypervisorv1.VirtualNetwork {
	w.t.Helper()
	res, err := w.virt().GetVirtualNetwork(ctx, &hypervisorv1.GetVirtualNetworkRequest{Network: name})
	if err != nil {
		w.t.Fatal(err)
	}
	return res.GetNetwork()
}

const (
	poolRuns  = hypervisorv1.StoragePoolState_STORAGE_POOL_STATE_RUNNING
	poolStops = hypervisorv1.StoragePoolState_STORAGE_POOL_STATE_INACTIVE
)

func storageCases() map[string]unaryCase {
	return map[string]unaryCase{
		"ListStoragePools": effect(func(ctx context.Context, w *world) *hypervisorv1.ListStoragePoolsRequest {
			w.storagePool(ctx)
			return &hypervisorv1.ListStoragePoolsRequest{PageSize: 1}
		}, &hypervisorv1.ListStoragePoolsResponse{}, func(
			_ context.Context, _ *world, _ *hypervisorv1.ListStoragePoolsRequest, res *hypervisorv1.ListStoragePoolsResponse,
		) error {
			return must(len(res.GetPools()) == 1 && res.GetPools()[0].GetPath() != "", res)
		}),
		"GetStoragePool": effect(func(ctx context.Context, w *world) *hypervisorv1.GetStoragePoolRequest {
			return &hypervisorv1.GetStoragePoolRequest{Pool: w.storagePool(ctx)}
		}, &hypervisorv1.GetStoragePoolResponse{}, func(
			_ context.Context, _ *world, req *hypervisorv1.GetStoragePoolRequest, res *hypervisorv1.GetStoragePoolResponse,
		) error {
			return must(res.GetPool().GetName() == req.GetPool() && res.GetPool().GetState() == poolRuns, res)
		}),
		"CreateStoragePool": effect(func(_ context.Context, w *world) *hypervisorv1.CreateStoragePoolRequest {
			return &hypervisorv1.CreateStoragePoolRequest{Name: "<" + uuid.NewString() + ">", Path: filepath.Join(w.t.TempDir(), "p"), Autostart: true}
		}, &hypervisorv1.CreateStoragePoolResponse{}, func(
			ctx context.Context, w *world, req *hypervisorv1.CreateStoragePoolRequest, res *hypervisorv1.CreateStoragePoolResponse,
		) error {
			return must(res.GetPool().GetPath() == req.GetPath() && res.GetPool().GetAutostart() && w.poolState(ctx, req.GetName()) == poolRuns, res)
		}),
		"StartStoragePool": effect(func(ctx context.Context, w *world) *hypervisorv1.StartStoragePoolRequest {
			return &hypervisorv1.StartStoragePoolRequest{Pool: w.stoppedPool(ctx)}
		}, &hypervisorv1.StartStoragePoolResponse{}, func(
			ctx context.Context, w *world, req *hypervisorv1.StartStoragePoolRequest, res *hypervisorv1.StartStoragePoolResponse,
		) error {
			return must(res.GetPool().GetState() == poolRuns && w.poolState(ctx, req.GetPool()) == poolRuns, res)
		}),
		"StopStoragePool": effect(func(ctx context.Context, w *world) *hypervisorv1.StopStoragePoolRequest {
			return &hypervisorv1.StopStoragePoolRequest{Pool: w.storagePool(ctx)}
		}, &hypervisorv1.StopStoragePoolResponse{}, func(
			ctx context.Context, w *world, req *hypervisorv1.StopStoragePoolRequest, res *hypervisorv1.StopStoragePoolResponse,
		) error {
			return must(res.GetPool().GetState() == poolStops && w.poolState(ctx, req.GetPool()) == poolStops, res)
		}),
		"RefreshStoragePool": effect(func(ctx context.Context, w *world) *hypervisorv1.RefreshStoragePoolRequest {
			return &hypervisorv1.RefreshStoragePoolRequest{Pool: w.storagePool(ctx)}
		}, &hypervisorv1.RefreshStoragePoolResponse{}, func(
			_ context.Context, _ *world, _ *hypervisorv1.RefreshStoragePoolRequest, res *hypervisorv1.RefreshStoragePoolResponse,
		) error {
			return must(res.GetPool().GetState() == poolRuns, res)
		}),
		"DeleteStoragePool": effect(func(ctx context.Context, w *world) *hypervisorv1.DeleteStoragePoolRequest {
			return &hypervisorv1.DeleteStoragePoolRequest{Pool: w.storagePool(ctx)}
		}, &hypervisorv1.DeleteStoragePoolResponse{}, func(
			ctx context.Context, w *world, req *hypervisorv1.DeleteStoragePoolRequest, _ *hypervisorv1.DeleteStoragePoolResponse,
		) error {
			_, err := w.virt().GetStoragePool(ctx, &hypervisorv1.GetStoragePoolRequest{Pool: req.GetPool()})
			return gone(err)
		}),
		"ListStorageVolumes": effect(func(ctx context.Context, w *world) *hypervisorv1.ListStorageVolumesRequest {
			return &hypervisorv1.ListStorageVolumesRequest{Pool: w.filledVolume(ctx, "x")}
		}, &hypervisorv1.ListStorageVolumesResponse{}, func(
			_ context.Context, _ *world, _ *hypervisorv1.ListStorageVolumesRequest, res *hypervisorv1.ListStorageVolumesResponse,
		) error {
			return must(len(res.GetVolumes()) == 1 && res.GetVolumes()[0].GetName() == "vol 1", res)
		}),
		"GetStorageVolume": effect(func(ctx context.Context, w *world) *hypervisorv1.GetStorageVolumeRequest {
			return &hypervisorv1.GetStorageVolumeRequest{Pool: w.filledVolume(ctx, "x"), Volume: "vol 1"}
		}, &hypervisorv1.GetStorageVolumeResponse{}, func(
			_ context.Context, _ *world, _ *hypervisorv1.GetStorageVolumeRequest, res *hypervisorv1.GetStorageVolumeResponse,
		) error {
			return must(res.GetVolume().GetCapacity() == 1<<20 && res.GetVolume().GetFormat() == "raw" && res.GetVolume().GetPath() != "", res)
		}),
		"CreateStorageVolume": effect(func(ctx context.Context, w *world) *hypervisorv1.CreateStorageVolumeRequest {
			return &hypervisorv1.CreateStorageVolumeRequest{Pool: w.storagePool(ctx), Name: "vol 1", Format: hypervisorv1.VolumeFormat_VOLUME_FORMAT_QCOW2, Capacity: 2 << 20}
		}, &hypervisorv1.CreateStorageVolumeResponse{}, func(
			ctx context.Context, w *world, req *hypervisorv1.CreateStorageVolumeRequest, res *hypervisorv1.CreateStorageVolumeResponse,
		) error {
			_, err := w.virt().GetStorageVolume(ctx, &hypervisorv1.GetStorageVolumeRequest{Pool: req.GetPool(), Volume: "vol 1"})
			if err != nil {
				return err
			}
			return must(res.GetVolume().GetFormat() == "qcow2" && res.GetVolume().GetCapacity() == 2<<20, res)
		}),
		"CloneStorageVolume": effect(func(ctx context.Context, w *world) *hypervisorv1.CloneStorageVolumeRequest {
			return &hypervisorv1.CloneStorageVolumeRequest{Pool: w.filledVolume(ctx, "twins"), Volume: "vol 1", TargetVolume: "vol 1", TargetPool: w.storagePool(ctx)}
		}, &hypervisorv1.CloneStorageVolumeResponse{}, func(
			ctx context.Context, w *world, req *hypervisorv1.CloneStorageVolumeRequest, res *hypervisorv1.CloneStorageVolumeResponse,
		) error {
			got, err := w.content(ctx, req.GetTargetPool(), 5)
			if err != nil {
				return err
			}
			return must(got == "twins" && res.GetVolume().GetPool() == req.GetTargetPool(), res)
		}),
		"ResizeStorageVolume": effect(func(ctx context.Context, w *world) *hypervisorv1.ResizeStorageVolumeRequest {
			return &hypervisorv1.ResizeStorageVolumeRequest{Pool: w.filledVolume(ctx, "x"), Volume: "vol 1", Capacity: 1 << 19, Shrink: true}
		}, &hypervisorv1.ResizeStorageVolumeResponse{}, func(
			_ context.Context, _ *world, _ *hypervisorv1.ResizeStorageVolumeRequest, res *hypervisorv1.ResizeStorageVolumeResponse,
		) error {
			return must(res.GetVolume().GetCapacity() == 1<<19, res)
		}),
		"DeleteStorageVolume": effect(func(ctx context.Context, w *world) *hypervisorv1.DeleteStorageVolumeRequest {
			return &hypervisorv1.DeleteStorageVolumeRequest{Pool: w.filledVolume(ctx, "x"), Volume: "vol 1"}
		}, &hypervisorv1.DeleteStorageVolumeResponse{}, func(
			ctx context.Context, w *world, req *hypervisorv1.DeleteStorageVolumeRequest, _ *hypervisorv1.DeleteStorageVolumeResponse,
		) error {
			_, err := w.virt().GetStorageVolume(ctx, &hypervisorv1.GetStorageVolumeRequest{Pool: req.GetPool(), Volume: "vol 1"})
			return gone(err)
		}),
		"WipeStorageVolume": effect(func(ctx context.Context, w *world) *hypervisorv1.WipeStorageVolumeRequest {
			return &hypervisorv1.WipeStorageVolumeRequest{Pool: w.filledVolume(ctx, "secret"), Volume: "vol 1"}
		}, &hypervisorv1.WipeStorageVolumeResponse{}, func(
			ctx context.Context, w *world, req *hypervisorv1.WipeStorageVolumeRequest, res *hypervisorv1.WipeStorageVolumeResponse,
		) error {
			got, err := w.content(ctx, req.GetPool(), 6)
			if err != nil {
				return err
			}
			return must(got == "\x00\x00\x00\x00\x00\x00", res)
		}),
		"ListVirtualNetworks": effect(func(ctx context.Context, w *world) *hypervisorv1.ListVirtualNetworksRequest {
			w.virtualNetwork(ctx)
			return &hypervisorv1.ListVirtualNetworksRequest{PageSize: 1}
		}, &hypervisorv1.ListVirtualNetworksResponse{}, func(
			_ context.Context, _ *world, _ *hypervisorv1.ListVirtualNetworksRequest, res *hypervisorv1.ListVirtualNetworksResponse,
		) error {
			return must(len(res.GetNetworks()) == 1, res)
		}),
		"GetVirtualNetwork": effect(func(ctx context.Context, w *world) *hypervisorv1.GetVirtualNetworkRequest {
			return &hypervisorv1.GetVirtualNetworkRequest{Network: w.virtualNetwork(ctx)}
		}, &hypervisorv1.GetVirtualNetworkResponse{}, func(
			_ context.Context, _ *world, _ *hypervisorv1.GetVirtualNetworkRequest, res *hypervisorv1.GetVirtualNetworkResponse,
		) error {
			return must(res.GetNetwork().GetActive() && res.GetNetwork().GetAddresses()[0] == "192.0.2.1/24", res)
		}),
		"CreateVirtualNetwork": effect(func(context.Context, *world) *hypervisorv1.CreateVirtualNetworkRequest {
			id := uuid.NewString()[:8]
			return &hypervisorv1.CreateVirtualNetworkRequest{
				Name: "n" + id, Bridge: "c" + id, ForwardMode: hypervisorv1.ForwardMode_FORWARD_MODE_ISOLATED, Subnet: "192.0.2.9/24", DhcpStart: "192.0.2.10",
				DhcpEnd: "192.0.2.20",
			}
		}, &hypervisorv1.CreateVirtualNetworkResponse{}, func(
			ctx context.Context, w *world, req *hypervisorv1.CreateVirtualNetworkRequest, res *hypervisorv1.CreateVirtualNetworkResponse,
		) error {
			n := w.networkNow(ctx, req.GetName())
			return must(n.GetActive() && n.GetAutostart() && n.GetBridge() == req.GetBridge() && n.GetForwardMode() == req.GetForwardMode() &&
				n.GetAddresses()[0] == "192.0.2.9/24" && n.GetDhcpRanges()[0].GetEnd() == "192.0.2.20", res)
		}),
		"StartVirtualNetwork": effect(func(ctx context.Context, w *world) *hypervisorv1.StartVirtualNetworkRequest {
			return &hypervisorv1.StartVirtualNetworkRequest{Network: w.stoppedNetwork(ctx)}
		}, &hypervisorv1.StartVirtualNetworkResponse{}, func(
			ctx context.Context, w *world, req *hypervisorv1.StartVirtualNetworkRequest, res *hypervisorv1.StartVirtualNetworkResponse,
		) error {
			return must(res.GetNetwork().GetActive() && w.networkNow(ctx, req.GetNetwork()).GetActive(), res)
		}),
		"StopVirtualNetwork": effect(func(ctx context.Context, w *world) *hypervisorv1.StopVirtualNetworkRequest {
			return &hypervisorv1.StopVirtualNetworkRequest{Network: w.virtualNetwork(ctx)}
		}, &hypervisorv1.StopVirtualNetworkResponse{}, func(
			ctx context.Context, w *world, req *hypervisorv1.StopVirtualNetworkRequest, res *hypervisorv1.StopVirtualNetworkResponse,
		) error {
			return must(!res.GetNetwork().GetActive() && !w.networkNow(ctx, req.GetNetwork()).GetActive(), res)
		}),
		"DeleteVirtualNetwork": effect(func(ctx context.Context, w *world) *hypervisorv1.DeleteVirtualNetworkRequest {
			return &hypervisorv1.DeleteVirtualNetworkRequest{Network: w.virtualNetwork(ctx)}
		}, &hypervisorv1.DeleteVirtualNetworkResponse{}, func(
			ctx context.Context, w *world, req *hypervisorv1.DeleteVirtualNetworkRequest, _ *hypervisorv1.DeleteVirtualNetworkResponse,
		) error {
			_, err := w.virt().GetVirtualNetwork(ctx, &hypervisorv1.GetVirtualNetworkRequest{Network: req.GetNetwork()})
			return gone(err)
		}),
	}
}
