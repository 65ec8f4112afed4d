package host

import (
	"context"
	"slices"
	"sync"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/principal"
)

// Owners are the owners of the host, who have method power on everything. The zero value is nobody. They are in memory only: whoever manages the host names
// them again after a restart.
type Owners struct {
	mu            sync.RWMutex
	users, groups []string
}

// OwnsHost implements intercept.HostOwners.
func (o *Owners) OwnsHost(p principal.Principal) bool {
	o.mu.RLock()
	defer o.mu.RUnlock()
	return p.OwnsAny(o.users, o.groups)
}

func (o *Owners) set(users, groups []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.users, o.groups = slices.Clone(users), slices.Clone(groups)
}

// ChangeOwners implements HostService.
func (s *Service) ChangeOwners(_ context.Context, req *hypervisorv1.ChangeOwnersRequest) (*hypervisorv1.ChangeOwnersResponse, error) {
	for field, names := range map[string][]string{"owner_users": req.GetOwnerUsers(), "owner_groups": req.GetOwnerGroups()} {
		if slices.Contains(names, "") {
			return nil, fault.New(fault.InvalidArgument, "%s: contains an empty name", field)
		}
	}
	s.Owners.set(req.GetOwnerUsers(), req.GetOwnerGroups())
	return &hypervisorv1.ChangeOwnersResponse{}, nil
}
