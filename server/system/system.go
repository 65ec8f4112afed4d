// Package system is the SystemService: how the server itself does.
package system

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	adminv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/admin/v1"
	exportv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/export/v1"
	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/enumtext"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// VMs lists the VMs.
type VMs interface{ List() []*hypervisorv1.VmInfo }

// Jobs lists the jobs.
type Jobs interface {
	List(states []exportv1.JobState) []*exportv1.Job
}

// Service is the SystemService.
type Service struct {
	adminv1.UnimplementedSystemServiceServer
	Version   string
	Started   time.Time
	Now       func() time.Time
	VMs       VMs
	Jobs      Jobs
	Driver    hypervisor.Driver
	Providers []string
	// ReadFormats and WriteFormats are the disk formats there are.
	ReadFormats, WriteFormats []string
}

var _ adminv1.SystemServiceServer = (*Service)(nil)

// GetStatus implements SystemService.
func (s *Service) GetStatus(ctx context.Context, _ *adminv1.GetStatusRequest) (*adminv1.GetStatusResponse, error) {
	now := s.Now()
	res := &adminv1.GetStatusResponse{
		Version: s.Version, Uptime: durationpb.New(now.Sub(s.Started)), Time: timestamppb.New(now),
		Vms: make(map[string]uint32), Jobs: make(map[string]uint32),
	}
	for _, vm := range s.VMs.List() {
		res.Vms[enumtext.Of(vm.GetState())]++
	}
	for _, j := range s.Jobs.List(nil) {
		res.Jobs[enumtext.Of(j.GetState())]++
	}
	if host, err := s.Driver.Host(ctx); err == nil { // an unreachable virtualiser is seen in the empty version
		res.Hostname, res.Accelerated, res.AccelerationReason, res.HypervisorVersion = host.Hostname, host.Accelerated, host.Why, host.Version
	}
	return res, nil
}

// GetCapabilities implements SystemService.
func (s *Service) GetCapabilities(context.Context, *adminv1.GetCapabilitiesRequest) (*adminv1.GetCapabilitiesResponse, error) {
	return &adminv1.GetCapabilitiesResponse{
		Providers: s.Providers, ReadFormats: s.ReadFormats, WriteFormats: s.WriteFormats, Destinations: []string{"directory", "libvirt"},
	}, nil
}
