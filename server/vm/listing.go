package vm

import (
	"slices"
	"sync"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/prewire"
)

// listing is VMs as they were at one time, in the order of their creation, with what is made of them for callers. Nobody changes it. That of all VMs is
// handed out until something changes.
type listing struct {
	infos []*hypervisorv1.VmInfo
	// full is GetVmInfos' answer, names and sortedNames are ListVMs'.
	full, names, sortedNames prewire.Cache
	// byAddress returns the VMs in the order of their addresses.
	byAddress func() []*hypervisorv1.VmInfo
}

func newListing(infos []*hypervisorv1.VmInfo) *listing {
	return &listing{infos: infos, byAddress: sync.OnceValue(func() []*hypervisorv1.VmInfo { return slices.SortedFunc(slices.Values(infos), byAddress) })}
}

func (l *listing) byCreation() []*hypervisorv1.VmInfo { return l.infos }

func primaryAddresses(infos []*hypervisorv1.VmInfo) []string {
	all := make([]string, 0, len(infos))
	for _, info := range infos {
		all = append(all, info.GetAddress().GetIpAddress())
	}
	return all
}

// listing returns all VMs, without a copy if nothing has changed since the last call.
func (r *Registry) listing() *listing {
	r.mu.RLock()
	l := r.listed
	r.mu.RUnlock()
	if l != nil {
		return l
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.listed == nil {
		r.listed = newListing(slices.Clone(r.ordered))
	}
	return r.listed
}

// Alive says whether a VM has, or is about to have, a process.
func (r *Registry) Alive(uuid string) bool {
	info, err := r.Info(uuid)
	return err == nil && usesMemory(info.GetState())
}
