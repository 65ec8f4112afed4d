package vm

import (
	"context"
	"errors"
	"io"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/principal"
	"github.com/hyperplane-project/hyperplane/internal/undo"
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

// reserve checks the request, gives the VM its UUID and addresses, and makes it known as STARTING, locked.
func (c *creation) reserve(ctx context.Context) (*hypervisorv1.LocalVmInfo, func(), error) {
	if err := c.enabled(); err != nil {
		return nil, nil, err
	}
	if err := c.check(ctx); err != nil {
		return nil, nil, err
	}
	if err := checkPriority(c.spec.GetVmInfo().GetCpuPriority(), c.caller); err != nil {
		return nil, nil, err
	}
	info := proto.CloneOf(c.spec.GetVmInfo())
	if info.Uuid = c.uuid; c.uuid == "" {
		info.Uuid = c.NewUUID()
	}
	if err := c.settleArchitecture(ctx, info); err != nil {
		return nil, nil, err
	}
	info.CreatedOn = timestamppb.New(c.Now())
	c.enter(info, hypervisorv1.State_STATE_STARTING, "")
	if c.caller.Name != "" {
		info.OwnerUsers = append([]string{c.caller.Name}, slices.DeleteFunc(info.GetOwnerUsers(), func(u string) bool { return u == c.caller.Name })...)
	}
	if err := c.GiveAddresses(info, c.caller); err != nil {
		return nil, nil, err
	}
	var u undo.Stack
	u.Add(func(context.Context) error { c.Network.Release(info.GetUuid()); return nil })
	unlock, err := c.hold(ctx, info.GetUuid(), name(info))
	if err != nil {
		return nil, nil, errJoin(err, u.Run(ctx))
	}
	record := &hypervisorv1.LocalVmInfo{VmInfo: info}
	c.capacity.Lock()
	defer c.capacity.Unlock()
	if !c.spec.GetDoNotStart() {
		err = c.checkMemory(ctx, info, !c.spec.GetSkipMemoryCheck())
	}
	if err == nil {
		err = c.registry.Add(ctx, record, creating(info.GetUuid()))
	}
	if err != nil {
		unlock()
		return nil, nil, errJoin(err, u.Run(ctx))
	}
	return record, unlock, nil
}

// check refuses what can be seen to be wrong before anything is done.
func (c *creation) check(ctx context.Context) error {
	if err := checkSpec(c.spec); err != nil {
		return err
	}
	for i, index := range c.spec.GetStorageIndices() {
		if n := c.Volumes.Storages(); int(index) >= n {
			return fault.New(fault.InvalidArgument, "storage_indices[%d]: %d; this host has %d storage devices, from 0: see ListVolumeDirectories", i, index, n)
		}
	}
	if c.Guests == nil && (len(c.spec.GetOverlayDirectories())+len(c.spec.GetOverlayFiles()) > 0 || makesFilesystems(c.spec)) {
		return fault.New(fault.Unimplemented, "overlay_files, secondary_volumes_init: this host does not change the file systems of volumes")
	}
	if c.UserData == nil && c.spec.GetUserDataSize() > 0 {
		return fault.New(fault.Unimplemented, "user_data_size: this host keeps no user data")
	}
	if len(c.spec.GetIdentityCertificate())+len(c.spec.GetIdentityKey()) == 0 {
		return nil
	}
	if c.Identity == nil {
		return fault.New(fault.Unimplemented, "identity_certificate: this host keeps no identities of VMs")
	}
	return c.Identity.Check(ctx, c.spec.GetIdentityCertificate(), c.spec.GetIdentityKey())
}

// fill makes the volumes and starts the VM. The caller holds its lock.
func (c *creation) fill(ctx context.Context, record *hypervisorv1.LocalVmInfo) (*hypervisorv1.VmInfo, error) {
	uuid := record.GetVmInfo().GetUuid()
	volumes, places, err := c.volumes(ctx, record.GetVmInfo())
	if err != nil {
		return nil, err
	}
	record, err = c.registry.Change(ctx, uuid, func(r *hypervisorv1.LocalVmInfo) error {
		r.VmInfo.Volumes, r.VolumeLocations = volumes, places
		return c.furnish(ctx, r.GetVmInfo())
	})
	if err != nil {
		return nil, err
	}
	if c.spec.GetDoNotStart() {
		err = c.finish(ctx, uuid, hypervisorv1.State_STATE_STOPPED, "")
	} else if err = c.begin(ctx, record.GetVmInfo()); err == nil {
		err = c.finish(context.WithoutCancel(ctx), uuid, hypervisorv1.State_STATE_RUNNING, "")
	}
	if err != nil {
		return nil, err
	}
	return c.registry.Info(uuid)
}

// finish ends the creation: the VM is in its state, and the request that it was created by is kept.
func (c *creation) finish(ctx context.Context, uuid string, state hypervisorv1.State, reason string) error {
	var request *hypervisorv1.CreateVmSpec // nobody can repeat one that brought files: they are the VM's now
	if len(c.adopt) == 0 {
		request = c.spec
	}
	_, err := c.registry.Change(ctx, uuid, func(r *hypervisorv1.LocalVmInfo) error {
		c.enter(r.GetVmInfo(), state, reason)
		return nil
	}, created(uuid, request))
	return err
}

// furnish puts what comes with the request, besides volumes, into the VM's folder.
func (c *creation) furnish(ctx context.Context, info *hypervisorv1.VmInfo) error {
	if len(c.userData) > 0 {
		if err := c.UserData.Put(info.GetUuid(), c.userData); err != nil {
			return fault.Wrap(err, "user data")
		}
	}
	if c.upload != nil {
		if err := c.upload.end(); err != nil {
			return err
		}
	}
	if len(c.spec.GetIdentityCertificate()) == 0 {
		return nil
	}
	name, expires, err := c.Identity.Install(ctx, info.GetUuid(), c.spec.GetIdentityCertificate(), c.spec.GetIdentityKey())
	info.IdentityName, info.IdentityExpires = name, expires
	return fault.Wrap(err, "identity_certificate")
}

// begin starts the VM.
func (c *creation) begin(ctx context.Context, info *hypervisorv1.VmInfo) error {
	if err := c.say("starting VM " + info.GetAddress().GetIpAddress()); err != nil {
		return err
	}
	var err error
	if c.lease, err = c.expectLease(info.GetUuid(), c.spec.GetDhcpTimeout().AsDuration()); err != nil {
		return err
	}
	return c.detached(ctx, func(ctx context.Context) error {
		return c.start(ctx, info.GetUuid(), startOptions{netboot: c.spec.GetEnableNetboot()})
	})
}
