package dialogue

import (
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
)

// moves are the VMs that are on their way to another host or from one, as one watcher is told of them. A watcher of many hosts keeps one VM and one host for
// each address, those that it was told of last. If it heard of an arrival that is then given up, or of the destruction of what a VM has left behind, it would
// forget the VM where it is. Hypervisors of old therefore tell such a VM as migrating, which makes watchers ignore its end, and register its addresses at the
// destination only when it is there for good.
type moves struct {
	vms  map[string]*hypervisorv1.VmInfo // by UUID, as they are
	pool *hypervisorv1.AddressPool       // the last one
}

// movedView is how a watcher is told an update. The zero value changes nothing.
type movedView struct {
	vms  []string // UUIDs of VMs that are told as migrating
	held []string // addresses that are not told yet
	pool *hypervisorv1.AddressPool
}

// follow notes what an update says of moves.
func (v *moves) follow(m *hypervisorv1.Update) movedView {
	before := v.held()
	listed := make(map[string]bool)
	for _, d := range m.GetDeletedVms() {
		delete(v.vms, d.GetUuid())
	}
	for _, vm := range m.GetVms() {
		listed[vm.GetUuid()] = true
		_, moves := v.vms[vm.GetUuid()]
		moves = moves && (vm.GetUncommitted() || vm.GetState() == hypervisorv1.State_STATE_DESTROYING)
		if moves || vm.GetState() == hypervisorv1.State_STATE_MIGRATING {
			v.vms[vm.GetUuid()] = vm
		} else {
			delete(v.vms, vm.GetUuid())
		}
	}
	if m.GetFull() {
		maps.DeleteFunc(v.vms, func(uuid string, _ *hypervisorv1.VmInfo) bool { return !listed[uuid] })
	}
	if m.GetAddressPool() != nil {
		v.pool = m.GetAddressPool()
	}
	view := movedView{vms: slices.Sorted(maps.Keys(v.vms)), held: v.held()}
	if m.GetAddressPool() == nil && !slices.Equal(view.held, before) {
		view.pool = v.pool
	}
	return view
}

// held returns the addresses of VMs that are not this host's: not yet, or no more.
func (v *moves) held() []string {
	var all []string
	for _, vm := range v.vms {
		if !vm.GetUncommitted() {
			continue
		}
		all = append(all, vm.GetAddress().GetIpAddress())
		for _, a := range vm.GetSecondaryAddresses() {
			all = append(all, a.GetIpAddress())
		}
	}
	slices.Sort(all)
	return all
}

// key tells views of an update apart.
func (v movedView) key() string {
	key := strings.Join(v.vms, " ") + ";" + strings.Join(v.held, " ")
	if v.pool != nil {
		key += ";pool"
	}
	return key
}

// of returns an update as the watcher is told it. The update itself, which is everybody's, stays as it is.
func (v movedView) of(m *hypervisorv1.Update) *hypervisorv1.Update {
	if len(v.vms) == 0 && v.pool == nil {
		return m
	}
	m = proto.CloneOf(m)
	for _, vm := range m.GetVms() {
		if slices.Contains(v.vms, vm.GetUuid()) {
			vm.State = hypervisorv1.State_STATE_MIGRATING
		}
	}
	if v.pool != nil {
		m.AddressPool = proto.CloneOf(v.pool)
	}
	if pool := m.GetAddressPool(); pool != nil {
		pool.Addresses = slices.DeleteFunc(pool.GetAddresses(), func(a *hypervisorv1.Address) bool { return slices.Contains(v.held, a.GetIpAddress()) })
	}
	return m
}
