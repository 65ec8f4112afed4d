package appliance_test

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

func TestTemplateOfDomain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, disk := w.domain("web", true)
	w.must("/libvirt/template/create", map[string]any{"domain": "web", "name": "golden", "description": "d", "metadata": map[string]string{"os": "none"}})
	list := w.must("/libvirt/template/list", nil)
	all, _ := list["templates"].([]any)
	if list["total"] != 1.0 || all[0].(map[string]any)["metadata"].(map[string]any)["os"] != "none" { //nolint:forcetypeassert // the test fails
		t.Errorf("%v", list)
	}
	w.must("/libvirt/template/deploy", map[string]any{
		"template": "golden", "name": "new", "memory": 128, "vcpus": 2, "network": "net1", "autostart": true,
		"customize": map[string]any{"hostname": "new.example", "user_data": "#cloud-config\n"},
	})
	m := w.machine("new")
	if m == nil || m.Spec.MemoryBytes != 128<<20 || m.Spec.CPUs != 2 || m.Spec.NICs[0].Network != "net1" || m.Spec.NICs[0].Bridge != "" || !w.Host.Autostarts(m.UUID) {
		t.Fatalf("%+v", m)
	}
	if w.read(m.Spec.Disks[0].File) != w.read(disk) || len(m.Spec.Disks) != 2 || !m.Spec.Disks[1].CDROM {
		t.Errorf("%+v", m.Spec.Disks)
	}
	seed := w.read(m.Spec.Disks[1].File)
	if !strings.Contains(seed, "local-hostname: new.example") || !strings.Contains(seed, "#cloud-config") {
		t.Error("the seed disk does not have what was asked for")
	}
	w.must("/libvirt/template/deploy", map[string]any{"template": "golden", "name": "new2", "start": false})
	w.clean()
	w.must("/libvirt/batch/delete", map[string]any{"domains": []string{"new"}, "remove_storage": true})
	if _, err := os.Stat(m.Spec.Disks[1].File); err == nil || w.machine("new") != nil {
		t.Error("the domain, or its seed disk, is still there")
	}
}

func TestTemplateOfVM(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	vm := w.vm(false)
	w.must("/libvirt/template/create", map[string]any{"domain": vm.GetUuid(), "name": "golden"})
	answer := w.must("/libvirt/template/deploy", map[string]any{"template": "golden", "name": "two", "memory": 96, "start": true, "customize": map[string]any{"user_data": "#!x"}})
	id := answer["domain"].(map[string]any)["uuid"].(string) //nolint:forcetypeassert // the test fails
	res, err := hypervisorv1.NewVmServiceClient(w.Dial(true)).GetVmInfo(t.Context(), &hypervisorv1.GetVmInfoRequest{Vm: id})
	if err != nil {
		t.Fatal(err)
	}
	if v := res.GetVmInfo(); v.GetHostname() != "two" || v.GetMemoryInMib() != 96 || v.GetState() != hypervisorv1.State_STATE_RUNNING {
		t.Errorf("%v", v)
	}
	if w.read(filepath.Join(w.Config.VolumeDir, id, "user-data.raw")) != "#!x" {
		t.Error("other user data")
	}
	w.refused("/libvirt/template/deploy", map[string]any{"template": "golden", "name": "three", "autostart": true}, http.StatusBadRequest, "autostart")
	w.clean()
}

func TestTemplateIsExported(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.domain("web", false)
	w.must("/libvirt/template/create", map[string]any{"domain": "web", "name": "golden"})
	to := filepath.Join(w.Config.ImageDir, "golden")
	w.must("/libvirt/template/export", map[string]any{"template": "golden", "export_path": to, "compress": true})
	if out, err := exec.CommandContext(t.Context(), "qemu-img", "check", filepath.Join(to, "sda.qcow2")).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	w.refused("/libvirt/template/export", map[string]any{"template": "golden", "export_path": to}, http.StatusConflict, "exists")
	for _, path := range []string{"/tmp/x; touch /tmp/y", w.Config.ImageDir + "/../x", "/etc/x", filepath.Join(w.Config.StateDir, "x"), filepath.Join(w.Config.TemplateDir, "golden", "x")} {
		code, _ := w.call("/libvirt/template/export", map[string]any{"template": "golden", "export_path": path})
		if code != http.StatusForbidden && code != http.StatusBadRequest {
			t.Errorf("%s: %d", path, code)
		}
	}
	if err := os.Symlink("/", filepath.Join(w.Config.ImageDir, "link")); err != nil {
		t.Fatal(err)
	}
	w.refused("/libvirt/template/export", map[string]any{"template": "golden", "export_path": filepath.Join(w.Config.ImageDir, "link", "x")}, http.StatusForbidden, "neither")
	w.must("/libvirt/template/delete", map[string]any{"template": "golden"})
	if list := w.must("/libvirt/template/list", nil); list["total"] != 0.0 {
		t.Errorf("%v", list)
	}
	w.refused("/libvirt/template/delete", map[string]any{"template": "golden"}, http.StatusNotFound, "golden")
	w.refused("/libvirt/template/deploy", map[string]any{"template": "../b", "name": "x"}, http.StatusBadRequest, "template")
	w.refused("/libvirt/template/create", map[string]any{"domain": "web", "name": "../b"}, http.StatusBadRequest, "name")
	w.clean()
}

func TestTemplateIsSealed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	tree := filepath.Join(w.dir, "tree")
	for name, content := range map[string]string{
		"etc/machine-id": "0123456789abcdef\n", "etc/ssh/ssh_host_ed25519_key": "SECRETKEY", "etc/ssh/ssh_host_ed25519_key.pub": "k", "etc/ssh/sshd_config": "keep",
		"var/log/syslog": "LOGLINE", "var/log/deep/er/log": "LOGLINE", "etc/hosts": "keep",
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(tree, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		w.write(filepath.Join(tree, name), content)
	}
	disk := filepath.Join(w.dir, "root.ext4")
	if out, err := exec.CommandContext(t.Context(), "/usr/sbin/mke2fs", "-q", "-t", "ext4", "-d", tree, disk, "8M").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	w.define(hypervisor.Spec{UUID: uuid.NewString(), Name: "linux", CPUs: 1, MemoryBytes: 64 << 20, Disks: []hypervisor.Disk{{File: disk}}}, false)
	w.must("/libvirt/template/create", map[string]any{"domain": "linux", "name": "sealed", "seal": true})
	w.must("/libvirt/template/deploy", map[string]any{"template": "sealed", "name": "fresh"})
	fresh := w.machine("fresh").Spec.Disks[0].File
	for file, want := range map[string]string{"/etc/hosts": "keep", "/etc/ssh/sshd_config": "keep", "/etc/machine-id": "", "/etc/ssh/ssh_host_ed25519_key": "-", "/var/log/deep/er/log": "-", "/var/log/syslog": "-"} {
		out, err := exec.CommandContext(t.Context(), "/usr/sbin/debugfs", "-R", "cat "+file, fresh).Output()
		listed, listErr := exec.CommandContext(t.Context(), "/usr/sbin/debugfs", "-R", "stat "+file, fresh).Output()
		if err != nil || listErr != nil {
			t.Fatal(err, listErr)
		}
		got := string(out)
		if !strings.Contains(string(listed), "Inode:") {
			got = "-"
		}
		if got != want {
			t.Errorf("%s: %q, want %q", file, got, want)
		}
	}
	if source := w.read(disk); !strings.Contains(source, "SECRETKEY") {
		t.Error("the source was sealed")
	}
	w.domain("web", false)
	w.refused("/libvirt/template/create", map[string]any{"domain": "web", "name": "other", "seal": true}, http.StatusBadRequest, "file system")
	w.clean()
}
