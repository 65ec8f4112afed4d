package replay_test

import (
	"context"
	"os"
	"path/filepath"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/srpcshim/srpctest"
)

// lifeSession has a VM that runs.
func lifeSession() session {
	const vm = "10.99.1.20"
	return session{steps: []step{
		do(surroundings),
		play("vm-create-started"),
		remake(vm),
		gone(vm),
		changed("vm-create-started", asItIs),
		play("vm-info-running", "vm-start-running", "vm-stop", "vm-stop-stopped", "vm-reboot-stopped", "vm-start", "vm-reboot", "vm-start-not-owner",
			"vm-stop-not-owner", "errors-not-owner", "admin-with-method-power", "host-hold-vm-lock-read", "host-hold-vm-lock-write"),
		do(func(ctx context.Context, w *world) { w.logFile(ctx, vm) }),
		play("log-get-bad-name", "log-get-none", "log-get-not-owner", "log-get", "log-list"),
		play("change-destroy-protection-running", "vm-destroy-protected"),
		do(func(ctx context.Context, w *world) {
			_, err := hypervisorv1.NewVmConfigurationServiceClient(w.Dial(true)).ChangeVmDestroyProtection(ctx, &hypervisorv1.ChangeVmDestroyProtectionRequest{Vm: vm})
			if err != nil {
				w.t.Fatal(err)
			}
		}),
		play("change-tags-running", "change-hostname-running", "change-cpu-priority-running", "snapshot-make-running", "snapshot-make-forced",
			"snapshot-restore-running", "snapshot-restore-forced"),
		play("image-replace-running", "image-discard-old-running"),
		changed("image-replace-running", asItIs),
		play("image-debug", "image-debug-again", "vm-info-debugging", "vm-stop-debugging", "image-debug-stopped", "vm-start-debugging"),
		play("export-local-abandon", "export-local-commit"),
		given("vm-create-started"),
		play("errors-not-stopped"),
		play("vm-create-destroy-on-powerdown"),
		remake("10.99.1.21"),
		gone("10.99.1.21"),
		changed("vm-create-destroy-on-powerdown", asItIs),
		play("vm-destroy-running"),
		gone("10.99.1.21"),
		play("vm-info-after-destroy"),
	}}
}

// gone waits until a VM is no longer there: a running one is destroyed in the background.
func gone(vm string) step {
	return do(func(ctx context.Context, w *world) {
		for range 200 {
			if _, err := w.vms().GetVmInfo(ctx, &hypervisorv1.GetVmInfoRequest{Vm: vm}); err != nil {
				return
			}
			w.pause(ctx)
		}
		w.t.Fatalf("%s does not go", vm)
	})
}

// logFile writes what the recordings' virtualiser wrote into the file that ours has for the VM.
func (w *world) logFile(ctx context.Context, vm string) {
	w.t.Helper()
	info := w.info(ctx, vm)
	name := info.GetHostname() + "-" + info.GetUuid()[:8] + ".log"
	for _, s := range srpctest.ReadScript(w.t, filepath.Join(w.suite.dir, "log-get.jsonl"), nil).Steps {
		if s.Kind == "payload" {
			if err := os.WriteFile(filepath.Join(w.Config.Hypervisor.LogDir, name), s.Data, 0o600); err != nil {
				w.t.Fatal(err)
			}
		}
	}
	w.texts = append(w.texts, [2]string{"virtualiser.log", name})
}
