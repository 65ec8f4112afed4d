package vm

import (
	"context"
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/undo"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

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
	if err := c.takeAddresses(info, c.caller, true); err != nil {
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
	if err := c.checkBuses(ctx); err != nil {
		return err
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

// checkBuses refuses interfaces of volumes that the host does not have.
func (c *creation) checkBuses(ctx context.Context) error {
	var disks []hypervisor.Disk
	for i, w := range c.wanted(c.spec.GetVmInfo()) {
		bus, err := DiskBus(c.spec.GetVmInfo(), w.GetInterface())
		if err != nil {
			return fault.Wrap(err, "volume %d", i)
		}
		if bus == hypervisor.BusNVMe {
			disks = append(disks, hypervisor.Disk{File: VolumeFile(i), Bus: bus})
		}
	}
	if len(disks) == 0 {
		return nil
	}
	host, err := c.Driver.Host(ctx)
	if err != nil {
		return err
	}
	return host.CheckDisks(disks)
}
