package appliance_test

import (
	"context"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
	"github.com/hyperplane-project/hyperplane/server/hypervisor/fake"
)

func TestBackupAndRestoreInPlace(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ running, compress, gone bool }{{false, false, false}, {true, false, true}, {false, true, true}, {true, true, false}} {
		w := newWorld(t)
		id, disk := w.domain("web", c.running)
		good := w.read(disk)
		answer := w.must("/libvirt/backup/create", map[string]any{"vm_name": "web", "backup_name": "b1", "compress": c.compress, "description": "d"})
		if answer["disks_backed_up"] != 1.0 || answer["backup_path"] != filepath.Join(w.Config.BackupDir, "b1") {
			t.Errorf("%v", answer)
		}
		if c.running {
			w.refused("/libvirt/backup/restore", map[string]any{"backup_name": "b1"}, http.StatusBadRequest, "running")
			if err := w.driver.Kill(t.Context(), id); err != nil {
				t.Fatal(err)
			}
		}
		w.write(disk, strings.Repeat("destroyed.......", 32))
		if c.gone {
			if err := w.driver.Undefine(t.Context(), id); err != nil {
				t.Fatal(err)
			}
			if err := os.Remove(disk); err != nil {
				t.Fatal(err)
			}
		}
		w.must("/libvirt/backup/verify", map[string]any{"backup_name": "b1"})
		w.must("/libvirt/backup/restore", map[string]any{"backup_name": "b1", "start": true})
		m := w.machine("web")
		if m == nil || m.UUID != id || m.State != hypervisor.Running || m.Spec.NICs[0].MAC != "52:54:00:aa:bb:01" || w.read(disk) != good {
			t.Errorf("%+v: after the restore: %+v", c, m)
		}
		w.clean()
	}
}

func TestRestoreUnderANewName(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id, disk := w.domain("web", true)
	good := w.read(disk)
	w.must("/libvirt/backup/create", map[string]any{"vm_name": "web", "backup_name": "b1"})
	w.write(disk, strings.Repeat("changed since...", 32))
	w.must("/libvirt/backup/restore", map[string]any{"backup_name": "b1", "new_vm_name": "copy"})
	m := w.machine("copy")
	if m == nil || m.UUID == id || m.Spec.Disks[0].File == disk || m.Spec.NICs[0].MAC == "52:54:00:aa:bb:01" || w.read(m.Spec.Disks[0].File) != good {
		t.Errorf("%+v", m)
	}
	if w.read(disk) == good {
		t.Error("the domain's own disk was put back")
	}
	w.refused("/libvirt/backup/restore", map[string]any{"backup_name": "b1", "new_vm_name": "copy"}, http.StatusConflict, "copy")
	w.refused("/libvirt/backup/restore", map[string]any{"backup_name": "b1", "new_vm_name": "../x"}, http.StatusBadRequest, "new_name")
	w.clean()
}

func TestRestoreSparesOthersDisks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id, disk := w.domain("web", false)
	w.must("/libvirt/backup/create", map[string]any{"vm_name": "web", "backup_name": "b1"})
	if err := w.driver.Undefine(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	w.define(hypervisor.Spec{UUID: uuid.NewString(), Name: "thief", CPUs: 1, MemoryBytes: 64 << 20, Disks: []hypervisor.Disk{{File: disk}}}, true)
	now := w.read(disk)
	w.refused("/libvirt/backup/restore", map[string]any{"backup_name": "b1"}, http.StatusBadRequest, "thief")
	if w.read(disk) != now || w.machine("web") != nil {
		t.Error("something was changed")
	}
}

func TestRestoreIsUndone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, disk := w.domain("web", false)
	w.must("/libvirt/backup/create", map[string]any{"vm_name": "web", "backup_name": "b1"})
	file := filepath.Join(w.Config.BackupDir, "b1", "sda.qcow2")
	raw := w.read(file)
	w.write(disk, strings.Repeat("changed since...", 32))
	w.write(file, raw[:len(raw)-1]+"x")
	w.refused("/libvirt/backup/verify", map[string]any{"backup_name": "b1"}, http.StatusInternalServerError, "sda.qcow2: has changed")
	w.refused("/libvirt/backup/restore", map[string]any{"backup_name": "b1"}, http.StatusInternalServerError, "sda.qcow2: has changed")
	if !strings.HasPrefix(w.read(disk), "changed since") {
		t.Error("the disk was put back")
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	w.refused("/libvirt/backup/verify", map[string]any{"backup_name": "b1"}, http.StatusInternalServerError, "has gone")
	w.must("/libvirt/backup/delete", map[string]any{"backup_name": "b1"})
	w.clean()
}

func TestBackupOfVM(t *testing.T) {
	t.Parallel()
	for _, destroyed := range []bool{false, true} {
		w := newWorld(t)
		vms := hypervisorv1.NewVmServiceClient(w.Dial(true))
		vm := w.vm(true)
		file := w.volume(vm.GetUuid())
		w.write(file, strings.Repeat("good", 256<<10))
		w.must("/libvirt/backup/create", map[string]any{"vm_name": "one", "backup_name": "b1"})
		w.refused("/libvirt/backup/restore", map[string]any{"backup_name": "b1"}, http.StatusBadRequest, "not stopped")
		w.must("/libvirt/backup/restore", map[string]any{"backup_name": "b1", "new_vm_name": "two"})
		if _, err := vms.StopVm(t.Context(), &hypervisorv1.StopVmRequest{Vm: vm.GetUuid()}); err != nil {
			t.Fatal(err)
		}
		w.write(file, strings.Repeat("bad!", 256<<10))
		if destroyed {
			if _, err := vms.DestroyVm(t.Context(), &hypervisorv1.DestroyVmRequest{Vm: vm.GetUuid()}); err != nil {
				t.Fatal(err)
			}
		}
		w.must("/libvirt/backup/restore", map[string]any{"backup_name": "b1", "start": true})
		res, err := vms.GetVmInfo(t.Context(), &hypervisorv1.GetVmInfoRequest{Vm: vm.GetUuid()})
		if err != nil {
			t.Fatal(err)
		}
		got := res.GetVmInfo()
		if got.GetState() != hypervisorv1.State_STATE_RUNNING || got.GetAddress().GetMacAddress() != vm.GetAddress().GetMacAddress() {
			t.Errorf("%v", got)
		}
		if !strings.HasPrefix(w.read(file), "good") {
			t.Error("the volume is not as it was")
		}
		w.clean()
	}
}

// qcow2 makes a domain with a QCOW2 disk.
func (w *world) qcow2(name string) (id, disk string) {
	w.t.Helper()
	raw := w.file(name+".raw", strings.Repeat("first...", 32<<10))
	disk = filepath.Join(w.dir, name+".qcow2")
	if out, err := exec.CommandContext(w.t.Context(), "qemu-img", "convert", "-O", "qcow2", raw, disk).CombinedOutput(); err != nil {
		w.t.Fatalf("%v: %s", err, out)
	}
	id = uuid.NewString()
	w.define(hypervisor.Spec{UUID: id, Name: name, CPUs: 1, MemoryBytes: 64 << 20, Disks: []hypervisor.Disk{{File: disk, Format: hypervisor.DiskQCOW2}}}, true)
	return id, disk
}

func (w *world) content(qcow2 string) string {
	w.t.Helper()
	raw := filepath.Join(w.t.TempDir(), "raw")
	if out, err := exec.CommandContext(w.t.Context(), "qemu-img", "convert", "-O", "raw", qcow2, raw).CombinedOutput(); err != nil {
		w.t.Fatalf("%v: %s", err, out)
	}
	return w.read(raw)
}

func TestIncrementalBackups(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id, disk := w.qcow2("db")
	first := w.content(disk)
	w.must("/libvirt/backup/create", map[string]any{"vm_name": "db", "backup_name": "full", "checkpoint": true})
	// The fake's guest writes through the host's back.
	if out, err := exec.CommandContext(t.Context(), "qemu-io", "-f", "qcow2", "-c", "write -P 0x61 65536 65536", disk).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	second := w.content(disk)
	w.must("/libvirt/backup/create", map[string]any{"vm_name": "db", "backup_name": "inc1", "parent": "full", "checkpoint": true})
	w.must("/libvirt/backup/create", map[string]any{"vm_name": "db", "backup_name": "inc2", "parent": "inc1"})
	w.refused("/libvirt/backup/create", map[string]any{"vm_name": "db", "backup_name": "inc3", "parent": "inc2"}, http.StatusBadRequest, "no checkpoint")
	w.refused("/libvirt/backup/create", map[string]any{"vm_name": "db", "backup_name": "inc3", "parent": "inc1", "compress": true}, http.StatusBadRequest, "compress")
	if v := w.must("/libvirt/backup/verify", map[string]any{"backup_name": "inc2"}); len(v["chain"].([]any)) != 2 { //nolint:forcetypeassert // the test fails
		t.Errorf("%v", v)
	}
	w.refused("/libvirt/backup/delete", map[string]any{"backup_name": "full"}, http.StatusBadRequest, "inc1")
	if err := w.driver.Kill(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"full": first, "inc1": second, "inc2": second} {
		w.must("/libvirt/backup/restore", map[string]any{"backup_name": name})
		if w.content(disk) != want {
			t.Errorf("restored from %s: other content", name)
		}
	}
	w.must("/libvirt/backup/delete", map[string]any{"backup_name": "full", "force": true})
	w.refused("/libvirt/backup/verify", map[string]any{"backup_name": "inc2"}, http.StatusInternalServerError, "full")
	w.clean()
}

func TestBackupNames(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.domain("web", false)
	w.must("/libvirt/backup/create", map[string]any{"vm_name": "web", "backup_name": "b1"})
	w.must("/libvirt/backup/create", map[string]any{"vm_name": "web"})
	for _, body := range []map[string]any{{}, {"backup_name": "."}, {"backup_name": ".."}, {"backup_name": "../b1"}, {"backup_name": "/"}} {
		w.refused("/libvirt/backup/delete", body, http.StatusBadRequest, "backup")
		w.refused("/libvirt/backup/verify", body, http.StatusBadRequest, "backup")
		w.refused("/libvirt/backup/restore", body, http.StatusBadRequest, "backup")
	}
	w.refused("/libvirt/backup/create", map[string]any{"vm_name": "web", "backup_name": "b1"}, http.StatusConflict, "b1")
	w.refused("/libvirt/backup/create", map[string]any{"vm_name": "web", "backup_name": "b2", "checkpoint": true}, http.StatusBadRequest, "only while it runs")
	w.refused("/libvirt/backup/delete", map[string]any{"backup_name": "none"}, http.StatusNotFound, "none")
	if all := w.must("/libvirt/backup/list?vm_name=web", nil); all["total"] != 2.0 {
		t.Errorf("%v", all)
	}
	if all := w.must("/libvirt/backup/list?vm_name=other", nil); all["total"] != 0.0 {
		t.Errorf("%v", all)
	}
	w.clean()
}

func TestBackupIsUndoneAndCancelled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.domain("web", true)
	w.Host.FailNext(fake.MethodCopyDisks, fault.New(fault.Unavailable, "broken on purpose"))
	w.refused("/libvirt/backup/create", map[string]any{"vm_name": "web", "backup_name": "b1"}, http.StatusServiceUnavailable, "on purpose")
	w.clean()
	release := w.Host.Hold(fake.MethodCopyDisks)
	defer release()
	ctx, cancel := context.WithCancel(t.Context())
	stream, err := hypervisorv1.NewApplianceServiceClient(w.Dial(true)).CreateBackup(ctx, &hypervisorv1.CreateBackupRequest{Domain: "web", Name: "b1"})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := stream.Recv(); err == nil {
		t.Error("no error")
	}
	release()
	w.Stop()
	w.clean()
}
