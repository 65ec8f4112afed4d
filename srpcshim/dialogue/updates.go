package dialogue

import (
	"maps"
	"slices"
	"strings"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/gen/srpc"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/srpcshim/wire"
)

// GetUpdatesRequest is what a client may say at any time. Each is answered with an Update.
type GetUpdatesRequest struct {
	RegisterExternalLeasesRequest *srpc.RegisterExternalLeasesRequest
}

// Update is a change of the host's state. Fields with a Have before them are told only if that is set. A VM without anything in it has gone.
type Update struct {
	HaveAddressPool      bool                    `json:",omitempty"`
	AddressPool          []srpc.Address          `json:",omitempty"`
	ArchitectureType     srpc.ArchitectureType   `json:",omitempty"`
	AvailableMemoryInMiB *uint64                 `json:",omitempty"`
	HaveDisabled         bool                    `json:",omitempty"`
	Disabled             bool                    `json:",omitempty"`
	MemoryInMiB          *uint64                 `json:",omitempty"`
	NumCPUs              *uint                   `json:",omitempty"`
	NumFreeAddresses     map[string]uint         `json:",omitempty"`
	HealthStatus         string                  `json:",omitempty"`
	HaveSerialNumber     bool                    `json:",omitempty"`
	SerialNumber         string                  `json:",omitempty"`
	HaveSubnets          bool                    `json:",omitempty"`
	Subnets              []srpc.Subnet           `json:",omitempty"`
	TotalVolumeBytes     *uint64                 `json:",omitempty"`
	HaveVMs              bool                    `json:",omitempty"`
	VMs                  map[string]*srpc.VmInfo `json:",omitempty"`
}

// updates is one GetUpdates.
type updates struct {
	talk  wire.Talk
	begun bool
	host  *hypervisorv1.HostStatus // the last one
	// known is the addresses of VMs by their UUIDs, holder the other way round.
	known, holder map[string]string
	moves         moves
}

func openUpdates(t wire.Talk) wire.Dialogue {
	u := &updates{talk: t, known: make(map[string]string), holder: make(map[string]string), moves: moves{vms: make(map[string]*hypervisorv1.VmInfo)}}
	return dialogue[*hypervisorv1.GetUpdatesRequest, *hypervisorv1.GetUpdatesResponse]{
		u.recv,
		u.send,
		// An Update has no place for an error.
		func(error) error { return wire.ErrClose },
	}
}

// recv begins without a request, because clients here need not send any, and the handler answers all but the first.
func (u *updates) recv(m *hypervisorv1.GetUpdatesRequest) error {
	if !u.begun {
		u.begun = true
		return nil
	}
	w := new(GetUpdatesRequest)
	if err := u.talk.Read(w, true); err != nil {
		u.talk.Cancel()
		return fault.As(fault.Canceled, cut(err), "client")
	}
	if w.RegisterExternalLeasesRequest == nil {
		return nil
	}
	leases, err := srpc.RegisterExternalLeasesRequestToProto(*w.RegisterExternalLeasesRequest)
	m.ExternalLeases = &hypervisorv1.ExternalLeases{Addresses: leases.GetAddresses(), Hostnames: leases.GetHostnames()}
	return fault.As(fault.InvalidArgument, err, "request")
}

// told is what an Update on the wire depends on beside the update: watchers who know the same get the same.
type told struct {
	update *hypervisorv1.Update // a batch is one message for all watchers
	health string
	memory uint64
	gone   string
	moved  string
}

func (u *updates) send(m *hypervisorv1.GetUpdatesResponse) error {
	update := m.GetUpdate()
	if update == nil {
		return fault.New(fault.Internal, "an answer without an update")
	}
	if update.GetHost() != nil {
		u.host = update.GetHost()
	}
	gone, moved := u.follow(update), u.moves.follow(update)
	build := func() (any, error) { return u.convert(moved.of(update), gone) }
	if update.GetFull() || empty(update) { // nobody else says these
		w, err := build()
		if err != nil {
			return err
		}
		return u.talk.Write(w)
	}
	return u.talk.Share(told{update, u.host.GetHealthStatus(), u.host.GetAvailableMemoryInMib(), strings.Join(gone, " "), moved.key()}, build)
}

// empty says whether an update is a mere sign of life.
func empty(m *hypervisorv1.Update) bool {
	return len(m.GetVms())+len(m.GetDeletedVms()) == 0 && m.GetHost() == nil && m.GetAddressPool() == nil && m.GetSubnets() == nil
}

// convert makes an Update. gone are addresses at which there is no VM any more.
func (u *updates) convert(m *hypervisorv1.Update, gone []string) (*Update, error) {
	var e wire.Errors
	w := &Update{HealthStatus: u.host.GetHealthStatus()}
	u.addHost(&e, w, m.GetHost())
	if pool := m.GetAddressPool(); pool != nil {
		w.HaveAddressPool = true
		w.AddressPool = wire.List(&e, "AddressPool", pool.GetAddresses(), srpc.AddressToWire)
		w.NumFreeAddresses = make(map[string]uint)
		for subnet, n := range pool.GetNumFreeAddresses() {
			w.NumFreeAddresses[subnet] = uint(n)
		}
	}
	if subnets := m.GetSubnets(); subnets != nil {
		w.HaveSubnets = true
		w.Subnets = wire.List(&e, "Subnets", subnets.GetSubnets(), srpc.SubnetToWire)
	}
	addVMs(&e, w, m, gone)
	// Every change tells the memory that is left; an answer to a request tells nothing but the health.
	if w.HaveVMs || w.HaveSubnets || w.HaveAddressPool || w.HaveDisabled {
		w.AvailableMemoryInMiB = new(u.host.GetAvailableMemoryInMib())
	}
	return w, e.Err()
}

func (u *updates) addHost(e *wire.Errors, w *Update, host *hypervisorv1.HostStatus) {
	if host == nil {
		return
	}
	w.ArchitectureType = wire.One(e, "ArchitectureType", host.GetArchitectureType(), srpc.ArchitectureTypeToWire)
	w.HaveDisabled, w.Disabled = true, host.GetDisabled()
	w.MemoryInMiB, w.NumCPUs = new(host.GetMemoryInMib()), new(uint(host.GetNumCpus()))
	w.HaveSerialNumber, w.SerialNumber = true, host.GetSerialNumber()
	w.TotalVolumeBytes = new(host.GetTotalVolumeBytes())
}

// addVMs tells VMs by their addresses. One without an address has no name that this protocol knows.
func addVMs(e *wire.Errors, w *Update, m *hypervisorv1.Update, gone []string) {
	w.VMs = make(map[string]*srpc.VmInfo)
	for _, vm := range m.GetVms() {
		if ip := vm.GetAddress().GetIpAddress(); ip != "" {
			w.VMs[ip] = new(live(wire.One(e, "VMs", vm, srpc.VmInfoToWire)))
		}
	}
	for _, ip := range gone {
		w.VMs[ip] = new(srpc.VmInfo)
	}
	w.HaveVMs = m.GetFull() || len(w.VMs) > 0
}

// follow notes where VMs are now and returns, in order, the addresses that none has any more: an address may change, and come back with another VM.
func (u *updates) follow(m *hypervisorv1.Update) []string {
	gone := make(map[string]bool)
	for _, d := range m.GetDeletedVms() {
		u.leave(d.GetUuid(), d.GetIpAddress(), gone)
	}
	listed := make(map[string]bool)
	for _, vm := range m.GetVms() {
		uuid, ip := vm.GetUuid(), vm.GetAddress().GetIpAddress()
		listed[uuid] = true
		if old := u.known[uuid]; old != ip {
			u.leave(uuid, old, gone)
		}
		if ip != "" {
			u.known[uuid], u.holder[ip] = ip, uuid
			delete(gone, ip)
		}
	}
	if m.GetFull() {
		for uuid, ip := range u.known {
			if !listed[uuid] {
				u.leave(uuid, ip, gone)
			}
		}
	}
	return slices.Sorted(maps.Keys(gone))
}

// leave takes a VM off its address, ip if none is known, which is gone then unless it is another's already.
func (u *updates) leave(uuid, ip string, gone map[string]bool) {
	if known := u.known[uuid]; known != "" {
		ip = known
	}
	delete(u.known, uuid)
	if holder := u.holder[ip]; ip == "" || holder != "" && holder != uuid {
		return
	}
	delete(u.holder, ip)
	gone[ip] = true
}

// live gives a VM whose volumes are still to come one without anything in it: clients take a VM without volumes for one that has gone.
func live(vm srpc.VmInfo) srpc.VmInfo {
	if len(vm.Volumes) == 0 {
		vm.Volumes = make([]srpc.Volume, 1)
	}
	return vm
}
