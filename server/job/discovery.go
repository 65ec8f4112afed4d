package job

import (
	"context"

	exportv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/export/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/page"
	"github.com/hyperplane-project/hyperplane/providers/driver"
)

// Discovery is the DiscoveryService.
type Discovery struct {
	exportv1.UnimplementedDiscoveryServiceServer
	Sources *Sources
}

var _ exportv1.DiscoveryServiceServer = (*Discovery)(nil)

// ListProviders implements DiscoveryService.
func (s *Discovery) ListProviders(_ context.Context, req *exportv1.ListProvidersRequest) (*exportv1.ListProvidersResponse, error) {
	names, next, err := page.Cut(s.Sources.Providers.Names(), req.GetPageSize(), req.GetPageToken(), func(n string) string { return n })
	if err != nil {
		return nil, err
	}
	return &exportv1.ListProvidersResponse{Providers: names, NextPageToken: next}, nil
}

// ListSourceVms implements DiscoveryService.
func (s *Discovery) ListSourceVms(ctx context.Context, req *exportv1.ListSourceVmsRequest) (*exportv1.ListSourceVmsResponse, error) {
	res := new(exportv1.ListSourceVmsResponse)
	err := s.Sources.use(ctx, req.GetSource(), func(d driver.Driver) error {
		vms, err := d.ListVMs(ctx, req.GetPattern())
		if err != nil {
			return err
		}
		vms, next, err := page.Cut(vms, req.GetPageSize(), req.GetPageToken(), func(v driver.VM) string { return v.ID })
		for _, v := range vms {
			res.Vms = append(res.Vms, sourceVM(v))
		}
		res.NextPageToken = next
		return err
	})
	return res, err
}

// GetSourceVm implements DiscoveryService.
func (s *Discovery) GetSourceVm(ctx context.Context, req *exportv1.GetSourceVmRequest) (*exportv1.GetSourceVmResponse, error) {
	if req.GetVm() == "" {
		return nil, fault.New(fault.InvalidArgument, "vm: is empty; give the VM's path, name or key at the source")
	}
	res := new(exportv1.GetSourceVmResponse)
	err := s.Sources.use(ctx, req.GetSource(), func(d driver.Driver) error {
		v, err := d.GetVM(ctx, req.GetVm())
		res.Vm = sourceVM(v)
		return err
	})
	if err != nil {
		return nil, err
	}
	return res, nil
}

// sourceVM translates a VM of a provider.
func sourceVM(v driver.VM) *exportv1.SourceVm {
	vm := &exportv1.SourceVm{
		Id: v.ID, Path: v.Path, Name: v.Name, Uuid: v.UUID, PowerState: exportv1.PowerState(v.Power), NumCpus: v.CPUs, MemoryBytes: v.MemoryBytes,
		Firmware: firmwareName(v.Firmware), GuestOs: v.GuestName, UsedBytes: v.UsedBytes, Blockers: v.Blockers,
	}
	if vm.GetGuestOs() == "" {
		vm.GuestOs = v.GuestOS
	}
	for _, d := range v.Disks {
		vm.Disks = append(vm.Disks, &exportv1.SourceDisk{
			Id: d.ID, Label: d.Label, File: d.File, CapacityBytes: uint64(d.Capacity), Thin: d.Thin, Bus: d.Bus,
		})
	}
	for _, n := range v.NICs {
		vm.Nics = append(vm.Nics, &exportv1.SourceNic{Label: n.Label, MacAddress: n.MAC, Network: n.Network, Model: n.Model})
	}
	return vm
}

func firmwareName(f driver.Firmware) string {
	switch f {
	case driver.FirmwareBIOS:
		return "bios"
	case driver.FirmwareUEFI:
		return "uefi"
	default:
		return ""
	}
}
