package replay_test

import (
	"context"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
)

// asItIs takes the wish for room in the root volume out of a request: the stock server does not grow images that are uploaded, ours does.
func asItIs(kind string, request map[string]any) {
	if kind == "CreateVmRequest" || kind == "ReplaceVmImageRequest" {
		delete(request, "MinimumFreeBytes")
		delete(request, "RoundupPower")
	}
}

// remake removes a VM, which is made otherwise then.
func remake(vm string) step {
	return do(func(ctx context.Context, w *world) {
		if _, err := w.vms().DestroyVm(ctx, &hypervisorv1.DestroyVmRequest{Vm: vm}); err != nil {
			w.t.Fatal(err)
		}
	})
}

// changesSession has VMs that stay stopped, and changes to them.
func changesSession() session {
	return session{steps: []step{
		do(surroundings),
		play("vm-create-no-such-subnet", "vm-create-no-subnet-given", "vm-create-stopped", "vm-get-create-request"),
		remake("10.99.1.1"),
		changed("vm-create-stopped", asItIs),
		play("vm-create-ip-taken", "vm-create-all-fields"),
		fullest(),
		play("vm-create-min-fields", "vm-create-init-volumes"),
		changed("vm-create-init-volumes", func(kind string, request map[string]any) {
			asItIs(kind, request)
			delete(request, "OverlayDirectories")
		}),
		play("vm-create-bad-hostname", "vm-create-negative-priority", "vm-create-image-name", "vm-create-image-url-errors",
			"vm-create-subnet-not-allowed", "vm-create-with-bogus-identity"),
		do(func(ctx context.Context, w *world) { w.create(ctx, "10.99.1.5", "nodata", nil) }),
		play("userdata-get-none"),
		play("userdata-get", "userdata-get-not-owner", "userdata-get-big", "vm-info", "vm-info-all-fields",
			"vm-get-create-request-all-fields", "vm-get-create-request-not-owner", "vm-storage-configuration"),
		play("volume-resize-ext4-grow", "volume-resize-ext4-shrink"),
		play("image-restore-none", "image-discard-old-none", "image-replace", "image-restore", "image-replace-url", "image-discard-old", "image-replace-skip-backup",
			"image-replace-pre-delete", "vm-info-after-replace", "image-replace-by-name", "image-replace-no-such-vm", "image-replace-not-owner",
			"image-patch-by-name", "image-debug-no-image"),
		changed("image-replace", asItIs),
		play("volume-get", "volume-get-same", "volume-get-delta", "volume-get-bad-index", "volume-get-errors", "image-last-patch-log-none"),
		play("snapshot-make", "snapshot-make-unnamed", "snapshot-bad-name", "vm-info-with-snapshots", "snapshot-restore-retain", "snapshot-restore",
			"snapshot-restore-none", "snapshot-discard", "snapshot-discard-none"),
		play("vm-destroy", "vm-destroy-no-such-vm"),
		do(func(ctx context.Context, w *world) { // the stock server had others before it in its list
			req := &hypervisorv1.ChangeAddressPoolRequest{AddressesToRemove: []*hypervisorv1.Address{{IpAddress: "10.99.1.5"}}}
			if _, err := w.networks().ChangeAddressPool(ctx, req); err != nil {
				w.t.Fatal(err)
			}
		}),
		play("vm-create-empty-root", "vm-list", "vm-list-filter-group", "vm-list-filter-owner", "vm-list-filter-tags", "vm-list-filter-state", "vm-infos-filter", "vm-infos"),
		play("userdata-restore-none", "userdata-replace", "userdata-get-replaced", "userdata-replace-not-owner", "userdata-restore", "userdata-replace-big",
			"userdata-discard-old"),
		play("change-tags", "change-cpus", "change-memory", "change-vcpus", "change-console-type", "change-machine-type", "change-num-network-queues",
			"change-hostname", "change-destroy-protection", "change-cpu-priority", "change-cpu-priority-negative", "change-cpu-priority-negative-admin",
			"change-volume-interfaces-too-many", "change-volume-interfaces"),
		play("change-owner-groups", "change-owner-users", "become-primary-owner", "become-primary-owner-again"),
		do(func(ctx context.Context, w *world) {
			alice := w.DialAs(w.people.certs["alice"])
			if _, err := hypervisorv1.NewVmConfigurationServiceClient(alice).BecomePrimaryVmOwner(ctx, &hypervisorv1.BecomePrimaryVmOwnerRequest{Vm: "10.99.1.1"}); err != nil {
				w.t.Fatal(err)
			}
			if _, err := hypervisorv1.NewVmConfigurationServiceClient(alice).ChangeVmDestroyProtection(ctx, &hypervisorv1.ChangeVmDestroyProtectionRequest{Vm: "10.99.1.1"}); err != nil {
				w.t.Fatal(err)
			}
		}),
		play("volumes-add", "volumes-reorder-bad", "volume-resize", "volume-resize-shrink", "volume-resize-bad-index", "volume-storage-index-bad", "volume-storage-index",
			"volumes-reorder", "volume-delete-not-owner", "volume-delete-root", "volume-delete"),
		play("vm-info-after-changes", "vm-destroy-not-owner", "volume-get-secondary", "vm-save", "vm-restore-refused", "snapshot-make-root-only"),
	}}
}
