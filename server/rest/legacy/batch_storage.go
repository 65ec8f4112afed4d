package legacy

import (
	"context"
	"time"

	"google.golang.org/grpc/status"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/intercept"
)

type batchSnapshotBody struct {
	batch
	NamePrefix  string `json:"name_prefix"`
	Description string `json:"description"`
	// Atomic takes all snapshots back if one fails.
	Atomic   bool `json:"atomic"`
	DiskOnly bool `json:"disk_only"`
}

func (a *appliances) batchSnapshot(ctx context.Context, b batchSnapshotBody) (any, error) {
	prefix := b.NamePrefix
	if prefix == "" {
		prefix = "batch"
	}
	name := prefix + "-" + time.Now().UTC().Format("20060102-150405")
	answer, err := b.each(ctx, "snapshot", func(ctx context.Context, domain string) error {
		if b.DiskOnly {
			if err := a.checkDiskOnly(ctx, domain); err != nil {
				return err
			}
		}
		_, err := a.virt.CreateDomainSnapshot(ctx, &hypervisorv1.CreateDomainSnapshotRequest{Domain: domain, Name: name, Description: b.Description})
		return err
	})
	if b.Atomic && (answer.Failed > 0 || err != nil) && answer.Successful > 0 {
		a.takeBack(ctx, &answer, name)
	}
	for i := range answer.Results {
		if answer.Results[i].Success {
			answer.Results[i].Snapshot = name
		}
	}
	return answer, err
}

// checkDiskOnly refuses what would be kept with its memory: only VMs and domains that are off are kept without.
func (a *appliances) checkDiskOnly(ctx context.Context, domain string) error {
	res, err := a.virt.GetDomain(ctx, &hypervisorv1.GetDomainRequest{Domain: domain})
	if err != nil {
		return err
	}
	d := res.GetDomain()
	off := d.GetState() == hypervisorv1.DomainState_DOMAIN_STATE_OFF || d.GetState() == hypervisorv1.DomainState_DOMAIN_STATE_CRASHED
	if !d.GetManaged() && !off {
		return fault.New(fault.Unimplemented, "disk_only: the snapshot of a domain that is %s holds its memory; leave it away, or stop the domain", domainState(d.GetState()))
	}
	return nil
}

// takeBack deletes the snapshots that were made, also for a client that has gone.
func (a *appliances) takeBack(ctx context.Context, answer *batchAnswer, name string) {
	ctx = context.WithoutCancel(ctx)
	for i := range answer.Results {
		r := &answer.Results[i]
		if !r.Success {
			continue
		}
		r.Success, r.Error = false, "was taken back because another one failed"
		if _, err := a.virt.DeleteDomainSnapshot(ctx, &hypervisorv1.DeleteDomainSnapshotRequest{Domain: r.Domain, Name: name}); err != nil {
			r.Error = "could not be taken back, though another one failed: " + status.Convert(intercept.Status(err)).Message()
		}
	}
	answer.finish()
}

type batchDeleteBody struct {
	batch
	RemoveStorage bool `json:"remove_storage"`
	// SnapshotsOnly deletes all snapshots, and keeps the domains.
	SnapshotsOnly bool `json:"snapshots_only"`
	Force         bool `json:"force"`
}

func (a *appliances) batchDelete(ctx context.Context, b batchDeleteBody) (any, error) {
	if b.SnapshotsOnly && b.RemoveStorage {
		return nil, fault.New(fault.InvalidArgument, "snapshots_only: is given with remove_storage; give one of them")
	}
	return b.each(ctx, "delete", func(ctx context.Context, domain string) error {
		if b.SnapshotsOnly {
			return a.deleteSnapshots(ctx, domain)
		}
		_, err := a.app.DeleteDomain(ctx, &hypervisorv1.DeleteDomainRequest{Domain: domain, RemoveStorage: b.RemoveStorage, Force: b.Force})
		return err
	})
}

func (a *appliances) deleteSnapshots(ctx context.Context, domain string) error {
	res, err := a.virt.ListDomainSnapshots(ctx, &hypervisorv1.ListDomainSnapshotsRequest{Domain: domain})
	if err != nil {
		return err
	}
	for _, s := range res.GetSnapshots() {
		if _, err := a.virt.DeleteDomainSnapshot(ctx, &hypervisorv1.DeleteDomainSnapshotRequest{Domain: domain, Name: s.GetName()}); err != nil {
			return err
		}
	}
	return nil
}
