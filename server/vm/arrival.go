package vm

import (
	"context"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/principal"
	"github.com/hyperplane-project/hyperplane/server/network"
)

// What follows brings VMs here that were not created here.

// Admit makes a VM known that comes from elsewhere, with its addresses: those that info asks for, or free ones. It is returned locked, and whatever becomes of
// this daemon, it is removed at the next start unless Settle is called. AlreadyExists if the VM or one of its addresses is here. With memory, the host must
// have the memory that the VM needs.
func (s *Service) Admit(ctx context.Context, info *hypervisorv1.VmInfo, caller principal.Caller, memory bool) (release func(), err error) {
	if err := s.enabled(); err != nil {
		return nil, err
	}
	uuid := info.GetUuid()
	unlock, err := s.hold(ctx, uuid, name(info))
	if err != nil {
		return nil, err
	}
	if _, err := s.registry.Get(uuid); err == nil {
		unlock()
		return nil, fault.New(fault.AlreadyExists, "vm %s: is on this host", name(info))
	}
	if err = s.settleArchitecture(ctx, info); err == nil {
		err = s.GiveAddresses(info, caller)
	}
	if err != nil {
		unlock()
		return nil, err
	}
	s.capacity.Lock()
	defer s.capacity.Unlock()
	if memory {
		err = s.checkMemory(ctx, info, true)
	}
	if err == nil {
		err = s.registry.Add(ctx, &hypervisorv1.LocalVmInfo{VmInfo: info}, creating(uuid))
	}
	if err != nil {
		s.Network.Release(uuid)
		unlock()
		return nil, err
	}
	return unlock, nil
}

// settleArchitecture says which architecture a VM has that was left to the host: others who take it over need to know.
func (s *Service) settleArchitecture(ctx context.Context, info *hypervisorv1.VmInfo) error {
	if info.GetArchitectureType() != hypervisorv1.ArchitectureType_ARCHITECTURE_TYPE_UNSPECIFIED {
		return nil
	}
	host, err := s.Driver.Host(ctx)
	if err != nil {
		return err
	}
	info.ArchitectureType = hypervisorv1.ArchitectureType(host.Arch)
	return nil
}

// Settle keeps a VM that Admit made known. The caller holds its lock.
func (s *Service) Settle(ctx context.Context, uuid string) error { return s.forget(ctx, uuid) }

// Discard removes a VM with everything it has, as if it had never been here. The caller holds its lock.
func (s *Service) Discard(ctx context.Context, uuid string) error {
	ctx = context.WithoutCancel(ctx)
	return errJoin(s.remove(ctx, uuid), s.forget(ctx, uuid))
}

// Enter changes a VM's state and says why. The caller holds its lock.
func (s *Service) Enter(ctx context.Context, uuid string, state hypervisorv1.State, reason string) error {
	_, err := s.setState(ctx, uuid, state, reason)
	return err
}

// Info returns what is known of the VM that ref names.
func (s *Service) Info(ref string) (*hypervisorv1.VmInfo, error) { return s.registry.Info(ref) }

// CheckNew says what is wrong with a VM that somebody describes to this host.
func CheckNew(info *hypervisorv1.VmInfo) error { return checkInfo(info) }

// GiveAddresses gives a VM the addresses that info asks for, or free ones, and puts them into info. After an error it has none.
func (s *Service) GiveAddresses(info *hypervisorv1.VmInfo, caller principal.Caller) error {
	return s.takeAddresses(info, caller, false)
}

// takeAddresses is GiveAddresses, also for a VM that is created.
func (s *Service) takeAddresses(info *hypervisorv1.VmInfo, caller principal.Caller, created bool) error {
	err := s.giveAddresses(info, caller, created)
	if err != nil {
		s.Network.Release(info.GetUuid())
	}
	return err
}

func (s *Service) giveAddresses(info *hypervisorv1.VmInfo, caller principal.Caller, created bool) error {
	if len(info.GetSecondaryAddresses()) > len(info.GetSecondarySubnetIds()) {
		return fault.New(fault.InvalidArgument, "vm_info.secondary_addresses: %d addresses for %d secondary_subnet_ids",
			len(info.GetSecondaryAddresses()), len(info.GetSecondarySubnetIds()))
	}
	req := network.Request{UUID: info.GetUuid(), Hostname: info.GetHostname(), Caller: caller, SubnetID: info.GetSubnetId(), Want: info.GetAddress(), Created: created}
	var err error
	if info.Address, info.SubnetId, err = s.Network.Allocate(req); err != nil {
		return err
	}
	wanted := info.GetSecondaryAddresses()
	info.SecondaryAddresses = nil
	for i, subnet := range info.GetSecondarySubnetIds() {
		req.SubnetID, req.Want = subnet, nil
		if i < len(wanted) {
			req.Want = wanted[i]
		}
		a, _, err := s.Network.Allocate(req)
		if err != nil {
			return err
		}
		info.SecondaryAddresses = append(info.SecondaryAddresses, a)
	}
	return nil
}

// TakeAddresses takes back all addresses of a VM.
func (s *Service) TakeAddresses(uuid string) { s.Network.Release(uuid) }

// SurrenderAddresses takes all addresses of a VM that has them at another host now from it and from this host.
func (s *Service) SurrenderAddresses(ctx context.Context, uuid string) error {
	return s.Network.Surrender(ctx, uuid)
}

// AdoptAddresses has the addresses that a VM has come with stay at this host when it ends.
func (s *Service) AdoptAddresses(ctx context.Context, uuid string) error {
	return s.Network.Adopt(ctx, uuid)
}
