package vm

import (
	"context"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
)

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
	c.Network.Lease(info.GetUuid(), c.spec.GetDhcpTimeout().AsDuration() >= 0)
	return c.detached(ctx, func(ctx context.Context) error {
		return c.start(ctx, info.GetUuid(), startOptions{netboot: c.spec.GetEnableNetboot()})
	})
}
