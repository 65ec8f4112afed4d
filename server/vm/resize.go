package vm

import (
	"context"
	"log/slog"

	"google.golang.org/protobuf/proto"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/principal"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// ChangeVmSize implements VmConfigurationService. Of a live VM the share of processor time changes at once; processors and memory grow as far as
// it was started for, see room.
func (s *Service) ChangeVmSize(ctx context.Context, req *hypervisorv1.ChangeVmSizeRequest) (*hypervisorv1.ChangeVmSizeResponse, error) {
	err := s.detached(ctx, func(ctx context.Context) error {
		record, unlock, err := s.lock(ctx, req.GetVm())
		if err != nil {
			return err
		}
		defer unlock()
		return s.resize(ctx, record, req)
	})
	if err != nil {
		return nil, err
	}
	return &hypervisorv1.ChangeVmSizeResponse{}, nil
}

func (s *Service) resize(ctx context.Context, record *hypervisorv1.LocalVmInfo, req *hypervisorv1.ChangeVmSizeRequest) error {
	const action = "change memory or the number of processors"
	change := func(info *hypervisorv1.VmInfo) error {
		if req.GetMemoryInMib() > 0 {
			info.MemoryInMib = req.GetMemoryInMib()
		}
		if req.GetMilliCpus() > 0 {
			info.MilliCpus = req.GetMilliCpus()
		}
		if req.GetVirtualCpus() > 0 {
			info.VirtualCpus = req.GetVirtualCpus()
		}
		return checkSizes(info)
	}
	changed := proto.CloneOf(record)
	if err := change(changed.GetVmInfo()); err != nil {
		return err
	}
	before, after := record.GetVmInfo(), changed.GetVmInfo()
	sameMachine := virtualCPUs(before) == virtualCPUs(after) && before.GetMemoryInMib() == after.GetMemoryInMib()
	switch {
	case executes(before):
		return s.adjust(ctx, record, changed, "change its size")
	case sameMachine && before.GetState() != hypervisorv1.State_STATE_STOPPED:
		return s.replace(ctx, changed) // the share of processor time counts from the next start
	}
	return s.redefine(ctx, record, action, change)
}

// ChangeVmCpuPriority implements VmConfigurationService.
func (s *Service) ChangeVmCpuPriority(
	ctx context.Context, req *hypervisorv1.ChangeVmCpuPriorityRequest,
) (*hypervisorv1.ChangeVmCpuPriorityResponse, error) {
	if err := checkPriority(req.GetCpuPriority(), principal.CallerFrom(ctx)); err != nil {
		return nil, err
	}
	err := s.detached(ctx, func(ctx context.Context) error {
		record, unlock, err := s.lock(ctx, req.GetVm())
		if err != nil {
			return err
		}
		defer unlock()
		return s.setPriority(ctx, record, req.GetCpuPriority())
	})
	if err != nil {
		return nil, err
	}
	return &hypervisorv1.ChangeVmCpuPriorityResponse{}, nil
}

func (s *Service) setPriority(ctx context.Context, record *hypervisorv1.LocalVmInfo, priority int32) error {
	const action = "change its CPU priority"
	info := record.GetVmInfo()
	err := require(info, action, hypervisorv1.State_STATE_RUNNING, hypervisorv1.State_STATE_DEBUGGING, hypervisorv1.State_STATE_STOPPED,
		hypervisorv1.State_STATE_FAILED_TO_START, hypervisorv1.State_STATE_MIGRATING, hypervisorv1.State_STATE_EXPORTING,
		hypervisorv1.State_STATE_CRASHED)
	if err != nil {
		return err
	}
	changed := proto.CloneOf(record)
	changed.VmInfo.CpuPriority = priority
	if executes(info) {
		return s.adjust(ctx, record, changed, action)
	}
	return s.replace(ctx, changed)
}

// executes says whether the VM's guest executes.
func executes(info *hypervisorv1.VmInfo) bool {
	return info.GetState() == hypervisorv1.State_STATE_RUNNING || info.GetState() == hypervisorv1.State_STATE_DEBUGGING
}

// adjust gives a live VM the resources of the changed record, or nothing. The caller holds the lock.
func (s *Service) adjust(ctx context.Context, record, changed *hypervisorv1.LocalVmInfo, action string) error {
	info := record.GetVmInfo()
	wish := resources(changed.GetVmInfo())
	machine, err := s.Driver.Get(ctx, info.GetUuid())
	if err == nil {
		err = machine.Spec.CheckAdjust(wish)
	}
	if err != nil {
		return fault.Wrap(err, "vm %s: can not %s", name(info), action)
	}
	// The record comes first: what a guest was given can not be taken back, a record can. It also keeps the memory for this VM.
	if err := s.claim(ctx, info, changed); err != nil {
		return err
	}
	if err := s.Driver.Adjust(ctx, info.GetUuid(), wish); err != nil {
		return errJoin(fault.Wrap(err, "vm %s: can not %s", name(info), action), s.replace(context.WithoutCancel(ctx), record))
	}
	s.tellUnenforced(ctx, info, wish)
	return nil
}

// claim keeps a changed record if the host has the memory that it adds.
func (s *Service) claim(ctx context.Context, info *hypervisorv1.VmInfo, changed *hypervisorv1.LocalVmInfo) error {
	s.capacity.Lock()
	defer s.capacity.Unlock()
	if more := changed.GetVmInfo().GetMemoryInMib() - min(changed.GetVmInfo().GetMemoryInMib(), info.GetMemoryInMib()); more > 0 {
		c, err := s.Capacity(ctx)
		if err != nil {
			return err
		}
		if more > c.GetAvailableMemoryInMib() {
			return fault.New(fault.ResourceExhausted, "vm %s: wants %d MiB more memory, the host has %d MiB left", name(info), more, c.GetAvailableMemoryInMib())
		}
	}
	return s.replace(ctx, changed)
}

// tellUnenforced says in the log that a share of the processors is kept but has no effect on this host.
func (s *Service) tellUnenforced(ctx context.Context, info *hypervisorv1.VmInfo, wish hypervisor.Resources) {
	if wish.CPUPriority == info.GetCpuPriority() && wish.CPUMillis == info.GetMilliCpus() {
		return
	}
	if host, err := s.Driver.Host(ctx); err == nil && !host.LimitsCPU {
		s.Log.LogAttrs(ctx, slog.LevelWarn, "the VM's share of the processors is kept but not enforced by this host",
			slog.String("vm", info.GetUuid()), slog.String("why", host.Why))
	}
}

// resources is what a VM's machine has of the host.
func resources(info *hypervisorv1.VmInfo) hypervisor.Resources {
	return hypervisor.Resources{
		CPUs: virtualCPUs(info), CPUMillis: info.GetMilliCpus(), CPUPriority: info.GetCpuPriority(), MemoryBytes: info.GetMemoryInMib() << 20,
	}
}
