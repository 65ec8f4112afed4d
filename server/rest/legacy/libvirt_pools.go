package legacy

import (
	"context"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/enumtext"
)

type poolView struct {
	Name      string `json:"name"`
	UUID      string `json:"uuid"`
	State     string `json:"state"`
	Capacity  uint64 `json:"capacity"`
	Available uint64 `json:"available"`
	Path      string `json:"path"`

	Allocation uint64 `json:"allocation"`
	Type       string `json:"type"`
	Autostart  bool   `json:"autostart"`
}

func poolViewOf(p *hypervisorv1.StoragePool) poolView {
	v := poolView{
		Name: p.GetName(), UUID: p.GetUuid(), State: enumtext.Of(p.GetState()), Capacity: p.GetCapacity(), Available: p.GetAvailable(), Path: p.GetPath(),
		Allocation: p.GetAllocation(), Type: p.GetType(), Autostart: p.GetAutostart(),
	}
	if p.GetState() == hypervisorv1.StoragePoolState_STORAGE_POOL_STATE_RUNNING {
		v.State = "active" // virsh's word
	}
	return v
}

func (h *host) pools(ctx context.Context, _ query) (any, error) {
	res, err := h.virt.ListStoragePools(ctx, &hypervisorv1.ListStoragePoolsRequest{})
	return listed("pools", res.GetPools(), poolViewOf), err
}

func (h *host) pool(ctx context.Context, q query) (any, error) {
	res, err := h.virt.GetStoragePool(ctx, &hypervisorv1.GetStoragePoolRequest{Pool: q["name"]})
	return poolViewOf(res.GetPool()), err
}

type newPool struct {
	Name      string `json:"name"`
	Path      string `json:"path"`
	Autostart bool   `json:"autostart"`
}

func (h *host) createPool(ctx context.Context, b newPool) (any, error) {
	res, err := h.virt.CreateStoragePool(ctx, &hypervisorv1.CreateStoragePoolRequest{Name: b.Name, Path: b.Path, Autostart: b.Autostart})
	return created{poolViewOf(res.GetPool())}, err
}

func (h *host) startPool(ctx context.Context, b named) (any, error) {
	_, err := h.virt.StartStoragePool(ctx, &hypervisorv1.StartStoragePoolRequest{Pool: b.Name})
	return answered(err, "Pool %s started", b.Name)
}

func (h *host) stopPool(ctx context.Context, b named) (any, error) {
	_, err := h.virt.StopStoragePool(ctx, &hypervisorv1.StopStoragePoolRequest{Pool: b.Name})
	return answered(err, "Pool %s stopped", b.Name)
}

func (h *host) refreshPool(ctx context.Context, b named) (any, error) {
	_, err := h.virt.RefreshStoragePool(ctx, &hypervisorv1.RefreshStoragePoolRequest{Pool: b.Name})
	return answered(err, "Pool %s refreshed", b.Name)
}

func (h *host) deletePool(ctx context.Context, b named) (any, error) {
	_, err := h.virt.DeleteStoragePool(ctx, &hypervisorv1.DeleteStoragePoolRequest{Pool: b.Name})
	return answered(err, "Pool %s deleted", b.Name)
}
