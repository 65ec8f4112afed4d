package legacy

import (
	"net/http"
	"time"

	exportv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/export/v1"
	"github.com/hyperplane-project/hyperplane/internal/enumtext"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// vmView is HyperSDK's VM.
type vmView struct {
	Name         string `json:"name"`
	Path         string `json:"path"`
	PowerState   string `json:"power_state"`
	GuestOS      string `json:"guest_os"`
	MemoryMB     uint64 `json:"memory_mb"`
	NumCPU       uint32 `json:"num_cpu"`
	StorageBytes uint64 `json:"storage_bytes"`
	UUID         string `json:"uuid,omitempty"`
	Firmware     string `json:"firmware,omitempty"`
	// Disks, NICs and Blockers are there for one VM only.
	Disks    []diskView `json:"disks,omitempty"`
	NICs     []nicView  `json:"nics,omitempty"`
	Blockers []string   `json:"blockers,omitempty"`
}

type diskView struct {
	ID            string `json:"id"`
	Label         string `json:"label"`
	File          string `json:"file"`
	CapacityBytes uint64 `json:"capacity_bytes"`
	Bus           string `json:"bus"`
}

type nicView struct {
	Label   string `json:"label"`
	MAC     string `json:"mac_address"`
	Network string `json:"network"`
}

func vmViewOf(v *exportv1.SourceVm) vmView {
	view := vmView{
		Name: v.GetName(), Path: v.GetPath(), PowerState: powerText(v.GetPowerState()), GuestOS: v.GetGuestOs(), MemoryMB: v.GetMemoryBytes() >> 20,
		NumCPU: v.GetNumCpus(), StorageBytes: v.GetUsedBytes(), UUID: v.GetUuid(), Firmware: v.GetFirmware(), Blockers: v.GetBlockers(),
	}
	for _, d := range v.GetDisks() {
		view.Disks = append(view.Disks, diskView{d.GetId(), d.GetLabel(), d.GetFile(), d.GetCapacityBytes(), d.GetBus()})
	}
	for _, n := range v.GetNics() {
		view.NICs = append(view.NICs, nicView{n.GetLabel(), n.GetMacAddress(), n.GetNetwork()})
	}
	return view
}

func powerText(p exportv1.PowerState) string {
	switch p {
	case exportv1.PowerState_POWER_STATE_ON:
		return "poweredOn"
	case exportv1.PowerState_POWER_STATE_OFF:
		return "poweredOff"
	default:
		return enumtext.Of(p)
	}
}

// listVMs lists the VMs of the daemon's own vCenter. HyperSDK took credentials as query parameters; those end up in logs, so they are
// refused here.
func (a *api) listVMs(r *http.Request) (any, error) {
	for key := range r.URL.Query() {
		if key != "pattern" {
			return nil, fault.New(fault.InvalidArgument,
				"query parameter %q: is not accepted (credentials do not belong into URLs); use POST /v1/sourceVms:list for another source", key)
		}
	}
	res, err := a.source.ListSourceVms(r.Context(), &exportv1.ListSourceVmsRequest{Pattern: r.URL.Query().Get("pattern")})
	if err != nil {
		return nil, err
	}
	views := []vmView{}
	for _, v := range res.GetVms() {
		views = append(views, vmViewOf(v))
	}
	return map[string]any{"vms": views, "total": len(views), "timestamp": time.Now().UTC()}, nil
}

func (a *api) vmInfo(r *http.Request) (any, error) {
	var q struct {
		VMPath string `json:"vm_path"`
	}
	if err := decode(r, &q); err != nil {
		return nil, err
	}
	res, err := a.source.GetSourceVm(r.Context(), &exportv1.GetSourceVmRequest{Vm: q.VMPath})
	if err != nil {
		return nil, err
	}
	return map[string]any{"success": true, "vm_info": vmViewOf(res.GetVm()), "timestamp": time.Now().UTC()}, nil
}
