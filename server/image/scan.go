package image

import (
	"context"

	"google.golang.org/protobuf/proto"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/vm"
)

// maxTree is how large the answer of ScanVmRoot may be, in bytes.
const maxTree = 256 << 20

// ScanVmRoot implements ImageService. Nobody can start or change the VM meanwhile.
func (s *Service) ScanVmRoot(ctx context.Context, req *hypervisorv1.ScanVmRootRequest) (*hypervisorv1.ScanVmRootResponse, error) {
	record, release, err := s.Operations.Acquire(ctx, req.GetVm())
	if err != nil {
		return nil, err
	}
	defer release()
	if err := vm.Require(record.GetVmInfo(), "be scanned", hypervisorv1.State_STATE_STOPPED); err != nil {
		return nil, err
	}
	file, err := root(record)
	if err != nil {
		return nil, err
	}
	res, size := new(hypervisorv1.ScanVmRootResponse), 0
	err = s.Guests.Scan(ctx, guestRoot(record, file), req.GetFilterLines(), func(e *hypervisorv1.FileEntry) error {
		if size += proto.Size(e); size > maxTree {
			return fault.New(fault.ResourceExhausted, "the tree takes more than %d bytes; leave out parts of it with filter_lines", maxTree)
		}
		res.Entries = append(res.Entries, e)
		return nil
	})
	if err != nil {
		return nil, fault.Wrap(err, "vm %s", vm.Name(record.GetVmInfo()))
	}
	return res, nil
}
