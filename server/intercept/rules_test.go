package intercept_test

import (
	"testing"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/principal"
	"github.com/hyperplane-project/hyperplane/server/intercept"
)

func TestMayCall(t *testing.T) {
	t.Parallel()
	rules, err := intercept.NewRules(hypervisorv1.File_hyperplane_hypervisor_v1_host_service_proto.Services().Get(0))
	if err != nil {
		t.Fatal(err)
	}
	alice := principal.Principal{Name: "alice"}
	for name, c := range map[string]struct {
		who       principal.Principal
		method    string
		openReads bool
		want      fault.Code
	}{
		"open to users":           {alice, hypervisorv1.HostService_GetCapacity_FullMethodName, false, fault.OK},
		"nobody":                  {principal.Principal{}, hypervisorv1.HostService_GetCapacity_FullMethodName, false, fault.Unauthenticated},
		"nobody, reads open":      {principal.Principal{}, hypervisorv1.HostService_GetCapacity_FullMethodName, true, fault.OK},
		"nobody, not a read":      {principal.Principal{}, hypervisorv1.HostService_GetRootCookiePath_FullMethodName, true, fault.Unauthenticated},
		"private":                 {alice, hypervisorv1.HostService_PowerOff_FullMethodName, false, fault.PermissionDenied},
		"private, with power":     {principal.Principal{Name: "a", Powers: []string{"Hypervisor.Power*"}}, hypervisorv1.HostService_PowerOff_FullMethodName, false, fault.OK},
		"local only, from afar":   {alice, hypervisorv1.HostService_ListVolumeDirectories_FullMethodName, false, fault.PermissionDenied},
		"local only, on the host": {principal.Principal{Name: "alice", Local: true}, hypervisorv1.HostService_ListVolumeDirectories_FullMethodName, false, fault.OK},
	} {
		if err := rules.MayCall(principal.With(t.Context(), c.who), c.method, c.openReads); !fault.Is(err, c.want) {
			t.Errorf("%s: %v, want code %d", name, err, c.want)
		}
	}
}

type owners []string

func (o owners) OwnsHost(p principal.Principal) bool { return p.OwnsAny(o, nil) }

func TestOwnersOfTheHostHavePower(t *testing.T) {
	t.Parallel()
	rules, err := intercept.NewRules(hypervisorv1.File_hyperplane_hypervisor_v1_host_service_proto.Services().Get(0))
	if err != nil {
		t.Fatal(err)
	}
	rules.Owners = owners{"alice", ""}
	for name, want := range map[string]fault.Code{"alice": fault.OK, "bob": fault.PermissionDenied, "": fault.Unauthenticated} {
		ctx := principal.With(t.Context(), principal.Principal{Name: name})
		if err := rules.MayCall(ctx, hypervisorv1.HostService_PowerOff_FullMethodName, false); !fault.Is(err, want) {
			t.Errorf("%q: %v, want code %d", name, err, want)
		}
	}
}
