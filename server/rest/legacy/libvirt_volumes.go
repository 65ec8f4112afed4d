package legacy

import (
	"context"
	"strings"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/enumtext"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// gigabyte is what HyperSDK counts capacities in, as virsh's suffix G does.
const gigabyte = 1 << 30

type volumeView struct {
	Name       string `json:"name"`
	Pool       string `json:"pool,omitempty"`
	Path       string `json:"path"`
	Type       string `json:"type"`
	Capacity   uint64 `json:"capacity"`
	Allocation uint64 `json:"allocation,omitempty"`
	Format     string `json:"format"`

	BackingPath string `json:"backing_path,omitempty"`
}

func volumeViewOf(v *hypervisorv1.StorageVolume) volumeView {
	return volumeView{v.GetName(), v.GetPool(), v.GetPath(), v.GetType(), v.GetCapacity(), v.GetAllocation(), v.GetFormat(), v.GetBackingPath()}
}

// volumes lists the pool "default" if none is named, as HyperSDK does.
func (h *host) volumes(ctx context.Context, q query) (any, error) {
	pool := q["pool"]
	if pool == "" {
		pool = "default"
	}
	res, err := h.virt.ListStorageVolumes(ctx, &hypervisorv1.ListStorageVolumesRequest{Pool: pool})
	all := listed("volumes", res.GetVolumes(), volumeViewOf)
	all["pool"] = pool
	return all, err
}

func (h *host) volume(ctx context.Context, q query) (any, error) {
	res, err := h.virt.GetStorageVolume(ctx, &hypervisorv1.GetStorageVolumeRequest{Pool: q["pool"], Volume: q["volume"]})
	return volumeViewOf(res.GetVolume()), err
}

type newVolume struct {
	Pool     string `json:"pool"`
	Name     string `json:"name"`
	Format   string `json:"format"`
	Capacity uint64 `json:"capacity"` // GB
	Prealloc bool   `json:"prealloc"`
}

func (h *host) createVolume(ctx context.Context, b newVolume) (any, error) {
	req := &hypervisorv1.CreateStorageVolumeRequest{Pool: b.Pool, Name: b.Name, Preallocate: b.Prealloc}
	switch b.Format {
	case "", "qcow2": // HyperSDK's default
		req.Format = hypervisorv1.VolumeFormat_VOLUME_FORMAT_QCOW2
	case "raw":
	default:
		return nil, fault.New(fault.InvalidArgument, "format: %q is not raw or qcow2", b.Format)
	}
	var err error
	if req.Capacity, err = bytesOf(b.Capacity); err != nil {
		return nil, err
	}
	res, err := h.virt.CreateStorageVolume(ctx, req)
	if err != nil {
		return nil, err
	}
	v := res.GetVolume()
	return created{map[string]any{
		"status": "success", "message": "Volume " + b.Name + " created", "pool": b.Pool, "name": b.Name, "path": v.GetPath(), "format": v.GetFormat(),
		"capacity": b.Capacity,
	}}, nil
}

func bytesOf(gigabytes uint64) (uint64, error) {
	if gigabytes == 0 || gigabytes > 1<<33 {
		return 0, fault.New(fault.InvalidArgument, "capacity: %d GB are none, or too many", gigabytes)
	}
	return gigabytes * gigabyte, nil
}

type volumeClone struct {
	Pool         string `json:"pool"`
	SourceVolume string `json:"source_volume"`
	TargetVolume string `json:"target_volume"`
	TargetPool   string `json:"target_pool"`
}

func (h *host) cloneVolume(ctx context.Context, b volumeClone) (any, error) {
	res, err := h.virt.CloneStorageVolume(ctx, &hypervisorv1.CloneStorageVolumeRequest{
		Pool: b.Pool, Volume: b.SourceVolume, TargetVolume: b.TargetVolume, TargetPool: b.TargetPool,
	})
	if err != nil {
		return nil, err
	}
	return created{map[string]any{
		"status": "success", "message": "Volume " + b.SourceVolume + " cloned to " + b.TargetVolume, "source_volume": b.SourceVolume,
		"target_volume": b.TargetVolume, "target_pool": res.GetVolume().GetPool(), "path": res.GetVolume().GetPath(),
	}}, nil
}

type volumeResize struct {
	Pool     string `json:"pool"`
	Volume   string `json:"volume"`
	Capacity uint64 `json:"capacity"` // GB
	Shrink   bool   `json:"shrink"`
}

func (h *host) resizeVolume(ctx context.Context, b volumeResize) (any, error) {
	capacity, err := bytesOf(b.Capacity)
	if err != nil {
		return nil, err
	}
	_, err = h.virt.ResizeStorageVolume(ctx, &hypervisorv1.ResizeStorageVolumeRequest{Pool: b.Pool, Volume: b.Volume, Capacity: capacity, Shrink: b.Shrink})
	return volumeDone(err, "resized", b.Pool, b.Volume, "new_capacity", b.Capacity)
}

// volumeDone is the answer of what was done to a volume, with one more field.
func volumeDone(err error, what, pool, volume, field string, value any) (any, error) {
	if err != nil {
		return nil, err
	}
	m := map[string]any{"status": "success", "message": "Volume " + volume + " " + what, "pool": pool, "volume": volume}
	if field != "" {
		m[field] = value
	}
	return m, nil
}

type volumeRef struct {
	Pool   string `json:"pool"`
	Volume string `json:"volume"`
}

func (h *host) deleteVolume(ctx context.Context, b volumeRef) (any, error) {
	_, err := h.virt.DeleteStorageVolume(ctx, &hypervisorv1.DeleteStorageVolumeRequest{Pool: b.Pool, Volume: b.Volume})
	return volumeDone(err, "deleted", b.Pool, b.Volume, "", nil)
}

type volumeWipe struct {
	volumeRef
	Algorithm string `json:"algorithm"`
}

func (h *host) wipeVolume(ctx context.Context, b volumeWipe) (any, error) {
	if b.Algorithm == "" {
		b.Algorithm = "zero"
	}
	algorithm, ok := enumtext.Parse[hypervisorv1.WipeAlgorithm](b.Algorithm)
	if !ok {
		return nil, fault.New(fault.InvalidArgument, "algorithm: %q is not one of %s", b.Algorithm, strings.Join(enumtext.Words(algorithm.Descriptor()), ", "))
	}
	_, err := h.virt.WipeStorageVolume(ctx, &hypervisorv1.WipeStorageVolumeRequest{Pool: b.Pool, Volume: b.Volume, Algorithm: algorithm})
	return volumeDone(err, "wiped using "+b.Algorithm+" algorithm", b.Pool, b.Volume, "algorithm", b.Algorithm)
}
