package vm

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/principal"
)

// CreateVm implements VmService.
func (s *Service) CreateVm(stream grpc.BidiStreamingServer[hypervisorv1.CreateVmRequest, hypervisorv1.CreateVmResponse]) error {
	first, err := stream.Recv()
	if errors.Is(err, io.EOF) {
		return fault.New(fault.InvalidArgument, "spec: is missing; send it in the first message")
	}
	if err != nil {
		return err
	}
	if first.GetSpec() == nil {
		return fault.New(fault.InvalidArgument, "spec: must be in the first message")
	}
	c := creation{
		Service: s, spec: first.GetSpec(), caller: principal.CallerFrom(stream.Context()), upload: &upload{recv: stream.Recv},
		tell: throttled(s.Now, stream.Send),
	}
	defer c.lease.stop()
	info, err := c.run(stream.Context())
	if err != nil {
		return err
	}
	// Like the caller, the VM's lock does not wait for the guest.
	timedOut, err := c.lease.wait(stream.Context())
	if err != nil {
		return err
	}
	return stream.Send(&hypervisorv1.CreateVmResponse{Final: true, IpAddress: info.GetAddress().GetIpAddress(), VmInfo: info, DhcpTimedOut: timedOut})
}

// CreateVmAsync implements VmService.
func (s *Service) CreateVmAsync(ctx context.Context, req *hypervisorv1.CreateVmAsyncRequest) (*hypervisorv1.CreateVmAsyncResponse, error) {
	if err := checkAsync(req.GetSpec()); err != nil {
		return nil, err
	}
	c := creation{Service: s, spec: req.GetSpec(), caller: principal.CallerFrom(ctx), tell: func(*hypervisorv1.CreateVmResponse) error { return nil }}
	record, unlock, err := c.reserve(ctx)
	if err != nil {
		return nil, err
	}
	info := record.GetVmInfo()
	s.background(ctx, "create", info.GetUuid(), func(ctx context.Context) error {
		defer unlock()
		if _, err := c.fill(ctx, record); err != nil {
			// The caller has gone with a VM in its hand: it must be able to find out what became of it.
			return errJoin(err, c.finish(ctx, info.GetUuid(), hypervisorv1.State_STATE_FAILED_TO_START, err.Error()))
		}
		return nil
	})
	return &hypervisorv1.CreateVmAsyncResponse{VmInfo: info}, nil
}

// Import creates a VM with the given UUID from finished images that lie on this host, and takes the files over. It is how an export job
// brings a VM here: a job that was interrupted calls again, and gets the VM that the first call made. The spec's volumes must be described
// in vm_info.volumes.
func (s *Service) Import(
	ctx context.Context, uuid string, spec *hypervisorv1.CreateVmSpec, files []string, caller principal.Caller,
) (*hypervisorv1.VmInfo, error) {
	ctx = During(ctx, "import")
	// A first call that was killed half-way has left a VM that is none.
	if err := s.removeInterrupted(ctx, uuid); err != nil {
		return nil, err
	}
	if info, err := s.registry.Info(uuid); err == nil {
		return info, nil
	}
	spec.VmInfo.Hostname = fitHostname(spec.GetVmInfo().GetHostname())
	c := creation{
		Service: s, spec: spec, caller: caller, uuid: uuid, adopt: files,
		tell: func(*hypervisorv1.CreateVmResponse) error { return nil },
	}
	return c.run(ctx)
}

// creation is the making of one VM.
type creation struct {
	*Service
	spec   *hypervisorv1.CreateVmSpec
	caller principal.Caller
	upload *upload  // the client's bytes; nil if there are none
	uuid   string   // the VM's UUID; empty = a random one
	adopt  []string // files of finished volumes
	tell   func(*hypervisorv1.CreateVmResponse) error
	lease  lease // what the caller waits for after the start
	// userData came between the image and the secondary volumes.
	userData []byte
}

// run makes the VM, or leaves nothing of it.
func (c *creation) run(ctx context.Context) (*hypervisorv1.VmInfo, error) {
	record, unlock, err := c.reserve(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	uuid := record.GetVmInfo().GetUuid()
	info, err := c.fill(ctx, record)
	if err != nil {
		cleanup := context.WithoutCancel(ctx)
		return nil, errJoin(fault.Wrap(err, "vm %s: create", name(record.GetVmInfo())), c.remove(cleanup, uuid), c.forget(cleanup, uuid))
	}
	return info, nil
}
