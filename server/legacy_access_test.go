package server_test

import (
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/server/config"
	"github.com/hyperplane-project/hyperplane/server/servertest"
)

// TestLegacyAccess asks as a user who owns nothing for what hypervisors of old told everybody.
func TestLegacyAccess(t *testing.T) {
	t.Parallel()
	for legacy, want := range map[bool]codes.Code{false: codes.PermissionDenied, true: codes.OK} {
		s := servertest.Start(t, func(c *config.Config) { c.LegacyAccess = legacy })
		res, err := hypervisorv1.NewVmServiceClient(s.Dial(true)).CreateVmAsync(t.Context(), &hypervisorv1.CreateVmAsyncRequest{Spec: &hypervisorv1.CreateVmSpec{
			VmInfo: &hypervisorv1.VmInfo{MemoryInMib: 64, MilliCpus: 100}, MinimumFreeBytes: 1 << 20, DoNotStart: true,
		}})
		if err != nil {
			t.Fatal(err)
		}
		vm := res.GetVmInfo().GetUuid()
		stranger := s.DialAs(s.ClientCertificate("stranger"))
		monitoring, volumes := hypervisorv1.NewMonitoringServiceClient(stranger), hypervisorv1.NewVolumeServiceClient(stranger)
		for name, call := range map[string]func() error{
			"ProbeVmPort": func() error {
				_, err := monitoring.ProbeVmPort(t.Context(), &hypervisorv1.ProbeVmPortRequest{Vm: vm, PortNumber: 1})
				return err
			},
			"ListVmVirtualiserLogFiles": func() error {
				_, err := monitoring.ListVmVirtualiserLogFiles(t.Context(), &hypervisorv1.ListVmVirtualiserLogFilesRequest{Vm: vm})
				return err
			},
			"GetVmVolumeStorageConfiguration": func() error {
				_, err := volumes.GetVmVolumeStorageConfiguration(t.Context(), &hypervisorv1.GetVmVolumeStorageConfigurationRequest{Vm: vm})
				return err
			},
		} {
			if err := call(); status.Code(err) != want {
				t.Errorf("%s, legacy access %v: %v, want %v", name, legacy, err, want)
			}
		}
	}
}
