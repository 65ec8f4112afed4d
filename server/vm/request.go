package vm

import (
	"context"
	"errors"

	"google.golang.org/protobuf/proto"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/store"
)

// GetVmCreateRequest implements VmService.
func (s *Service) GetVmCreateRequest(
	ctx context.Context, req *hypervisorv1.GetVmCreateRequestRequest,
) (*hypervisorv1.GetVmCreateRequestResponse, error) {
	info, err := s.registry.Info(req.GetVm())
	if err != nil {
		return nil, err
	}
	spec := new(hypervisorv1.CreateVmSpec)
	err = s.registry.store.View(ctx, func(r store.Reader) error {
		e, err := r.Get(requestPrefix + info.GetUuid())
		if err != nil {
			return err
		}
		return fault.As(fault.DataLoss, proto.Unmarshal(e.Value, spec), "state: %s", e.Key)
	})
	if errors.Is(err, store.ErrNotFound) {
		return nil, fault.New(fault.NotFound,
			"vm %s: there is no create request: it came by copy, migration, import or export, or is still being created", name(info))
	}
	if err != nil {
		return nil, fault.Wrap(err, "vm %s: create request", name(info))
	}
	return &hypervisorv1.GetVmCreateRequestResponse{CreateVmRequest: spec}, nil
}
