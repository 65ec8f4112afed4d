package appliance_test

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
	"github.com/hyperplane-project/hyperplane/server/hypervisor/fake"
)

func TestCloneDomain(t *testing.T) {
	t.Parallel()
	for _, running := range []bool{false, true} {
		w := newWorld(t)
		id, disk := w.domain("web", running)
		w.must("/libvirt/clone", map[string]any{"source": "web", "target": "web2", "start": true})
		clone := w.machine("web2")
		if clone == nil || clone.State != hypervisor.Running {
			t.Fatalf("clone %+v", clone)
		}
		if clone.UUID == id || clone.Spec.NICs[0].MAC == "52:54:00:aa:bb:01" || clone.Spec.Disks[0].File != filepath.Join(w.dir, "web2-sda.img") {
			t.Errorf("clone %+v", clone.Spec)
		}
		if w.read(clone.Spec.Disks[0].File) != w.read(disk) {
			t.Error("the clone's disk has another content")
		}
		if before := w.machine("web"); before.Spec.Disks[0].File != disk || before.UUID != id {
			t.Errorf("the source has changed: %+v", before.Spec)
		}
		w.clean()
	}
}

func TestCloneKeepsAddressesAndChoosesFiles(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.domain("web", false)
	file := filepath.Join(w.dir, "chosen.img")
	w.must("/libvirt/clone", map[string]any{"source": "web", "target": "web2", "new_mac": false, "files": []string{file}})
	if c := w.machine("web2"); c == nil || c.Spec.NICs[0].MAC != "52:54:00:aa:bb:01" || c.Spec.Disks[0].File != file {
		t.Errorf("%+v", c)
	}
	w.refused("/libvirt/clone", map[string]any{"source": "web", "target": "web3", "files": []string{file}}, http.StatusConflict, "chosen.img exists")
	w.refused("/libvirt/clone", map[string]any{"source": "web", "target": "web3", "files": []string{"/etc/passwd2"}}, http.StatusForbidden, "neither beside")
	w.refused("/libvirt/clone", map[string]any{"source": "web", "target": "web3", "files": []string{w.dir + "/../x"}}, http.StatusForbidden, "neither beside")
	w.refused("/libvirt/clone", map[string]any{"source": "web", "target": "web2"}, http.StatusConflict, "choose another")
	for _, name := range []string{"../x", "<x>", ".x", "a/b", "-x"} {
		w.refused("/libvirt/clone", map[string]any{"source": "web", "target": name}, http.StatusBadRequest, "name")
	}
	w.refused("/libvirt/clone", map[string]any{"source": "nobody", "target": "x"}, http.StatusNotFound, "nobody")
	w.refused("/libvirt/clone", map[string]any{"source": "web", "target": "x", "preserve": true}, http.StatusNotImplemented, "preserve")
	w.refused("/libvirt/clone", map[string]any{"source": "web", "target": "x", "shape": true}, http.StatusBadRequest, "shape")
	w.clean()
}

func TestCloneVM(t *testing.T) {
	t.Parallel()
	for _, running := range []bool{false, true} {
		w := newWorld(t)
		vm := w.vm(running)
		answer := w.must("/libvirt/clone", map[string]any{"source": vm.GetUuid(), "target": "two", "start": true})
		made, _ := answer["domain"].(map[string]any)
		id, _ := made["uuid"].(string)
		res, err := hypervisorv1.NewVmServiceClient(w.Dial(true)).GetVmInfo(t.Context(), &hypervisorv1.GetVmInfoRequest{Vm: id})
		if err != nil {
			t.Fatal(err)
		}
		clone := res.GetVmInfo()
		if clone.GetHostname() != "two" || clone.GetTags()["a"] != "b" || clone.GetState() != hypervisorv1.State_STATE_RUNNING ||
			clone.GetAddress().GetIpAddress() == vm.GetAddress().GetIpAddress() || len(clone.GetVolumes()) != 1 {
			t.Errorf("clone %v", clone)
		}
		if w.read(w.volume(id)) != w.read(w.volume(vm.GetUuid())) {
			t.Error("the clone's volume has another content")
		}
		w.refused("/libvirt/clone", map[string]any{"source": "one", "target": "two"}, http.StatusConflict, "two")
		w.refused("/libvirt/clone", map[string]any{"source": "one", "target": "three", "pool": "p"}, http.StatusBadRequest, "pool")
		w.refused("/libvirt/clone", map[string]any{"source": "one", "target": "a_b"}, http.StatusBadRequest, "host name")
		w.clean()
	}
}

func TestCloneIsUndone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.domain("web", true)
	for _, method := range []fake.Method{fake.MethodCopyDisks, fake.MethodDefine, "StartDomain"} {
		w.Host.FailNext(method, fault.New(fault.Unavailable, "broken on purpose"))
		w.refused("/libvirt/clone", map[string]any{"source": "web", "target": "web2", "start": true}, http.StatusServiceUnavailable, "on purpose")
		if m := w.machine("web2"); m != nil {
			t.Errorf("%s: there is a clone", method)
		}
		if _, err := os.Stat(filepath.Join(w.dir, "web2-sda.img")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: there is a disk: %v", method, err)
		}
		w.clean()
	}
	vm := w.vm(true)
	w.Host.FailNext(fake.MethodStart, fault.New(fault.Unavailable, "broken on purpose"))
	w.refused("/libvirt/clone", map[string]any{"source": vm.GetUuid(), "target": "two", "start": true}, http.StatusServiceUnavailable, "on purpose")
	w.refused("/libvirt/domain?name=two", nil, http.StatusNotFound, "two")
	w.clean()
}

func TestCloneIsCancelled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.domain("web", true)
	release := w.Host.Hold(fake.MethodCopyDisks)
	defer release()
	ctx, cancel := context.WithCancel(t.Context())
	stream, err := hypervisorv1.NewApplianceServiceClient(w.Dial(true)).CloneDomain(ctx, &hypervisorv1.CloneDomainRequest{Domain: "web", Name: "web2"})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := stream.Recv(); err == nil {
		t.Error("no error")
	}
	release()
	w.Stop() // waits for the handler
	w.clean()
	if w.machine("web2") != nil {
		t.Error("there is a clone")
	}
}

func TestCloneMany(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.domain("web", false)
	w.domain("c-2", false)
	answer := w.must("/libvirt/clone/multiple", map[string]any{"source": "web", "name_prefix": "c", "count": 3})
	if answer["successful"] != 2.0 || answer["failed"] != 1.0 || w.machine("c-1") == nil || w.machine("c-3") == nil {
		t.Errorf("%v", answer)
	}
	w.refused("/libvirt/clone/multiple", map[string]any{"source": "web", "name_prefix": "c", "count": 101}, http.StatusBadRequest, "count")
	w.refused("/libvirt/clone/multiple", map[string]any{"source": "web", "count": 1}, http.StatusBadRequest, "name_prefix")
}
