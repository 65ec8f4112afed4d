package vm

import (
	"context"

	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// MachineSpec returns the machine that a start of the VM would define, and makes its subnets and the disk with its user data ready. The caller holds the lock.
func (s *Service) MachineSpec(ctx context.Context, uuid string) (hypervisor.Spec, error) {
	record, err := s.registry.Get(uuid)
	if err != nil {
		return hypervisor.Spec{}, err
	}
	return s.spec(ctx, record)
}
