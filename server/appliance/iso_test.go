package appliance_test

import (
	"bytes"
	"encoding/json"
	"mime/multipart"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// iso is the least that is taken for an ISO 9660 file system.
func iso(label string, size int) []byte {
	raw := make([]byte, size)
	copy(raw[16*2048:], "\x01CD001\x01")
	copy(raw[16*2048+40:], label+strings.Repeat(" ", 32-len(label)))
	return raw
}

func (w *world) upload(part, name string, content []byte) (int, map[string]any) {
	w.t.Helper()
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	p, err := form.CreateFormFile(part, name)
	if err == nil {
		_, err = p.Write(content)
	}
	if err != nil || form.Close() != nil {
		w.t.Fatal(err)
	}
	code, raw := w.do(http.MethodPost, "/libvirt/isos/upload", form.FormDataContentType(), &body)
	answer := make(map[string]any)
	if err := json.Unmarshal(raw, &answer); err != nil {
		w.t.Fatalf("%v: %s", err, raw)
	}
	return code, answer
}

func TestISOImages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	large := iso("DEBIAN", 12<<20+5) // more than HyperSDK's limit
	if code, answer := w.upload("iso", "debian.iso", large); code != http.StatusOK || answer["size"] != float64(len(large)) {
		t.Fatalf("%d %v", code, answer)
	}
	if w.read(filepath.Join(w.Config.ISODir, "debian.iso")) != string(large) {
		t.Error("other content")
	}
	for name, c := range map[string]struct {
		part, file, says string
		content          []byte
		code             int
	}{
		"not an image":  {"iso", "x.iso", "no ISO 9660", make([]byte, 1<<20), http.StatusBadRequest},
		"too short":     {"iso", "x.iso", "no ISO 9660", []byte("x"), http.StatusBadRequest},
		"taken":         {"iso", "debian.iso", "is there already", large, http.StatusConflict},
		"no iso":        {"iso", "x.img", "does not end with .iso", large, http.StatusBadRequest},
		"hidden":        {"iso", ".x.iso", "begins with", large, http.StatusBadRequest},
		"bad character": {"iso", "a b.iso", "allowed", large, http.StatusBadRequest},
		"other part":    {"image", "x.iso", "part", large, http.StatusBadRequest},
	} {
		if code, answer := w.upload(c.part, c.file, c.content); code != c.code || !strings.Contains(answer["error"].(string), c.says) { //nolint:forcetypeassert // the test fails
			t.Errorf("%s: %d %v", name, code, answer)
		}
	}
	if list := w.must("/libvirt/isos/list", nil); list["total"] != 1.0 || list["isos"].([]any)[0].(map[string]any)["label"] != "DEBIAN" { //nolint:forcetypeassert // the test fails
		t.Errorf("%v", list)
	}
	if code, answer := w.upload("iso", "../../etc/up.iso", iso("UP", 1<<20)); code != http.StatusOK || answer["path"] != filepath.Join(w.Config.ISODir, "up.iso") {
		t.Errorf("%d %v", code, answer)
	}
	w.refused("/libvirt/isos/delete", map[string]any{"filename": "../debian.iso"}, http.StatusBadRequest, "filename")
	w.refused("/libvirt/isos/delete", map[string]any{}, http.StatusBadRequest, "filename")
	w.must("/libvirt/isos/delete", map[string]any{"filename": "up.iso"})
	w.refused("/libvirt/isos/delete", map[string]any{"filename": "up.iso"}, http.StatusNotFound, "up.iso")
	w.clean()
}

func TestISOInDrive(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.upload("iso", "a.iso", iso("A", 1<<20))
	w.upload("iso", "b.iso", iso("B", 1<<20))
	id, _ := w.domain("web", true)
	w.refused("/libvirt/domain/attach-iso", map[string]any{"vm_name": "web", "filename": "a.iso"}, http.StatusBadRequest, "no CD drive")
	if err := w.driver.Kill(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	device := w.must("/libvirt/domain/attach-iso", map[string]any{"vm_name": "web", "filename": "a.iso"})["device"]
	in := func(file string) bool {
		return slices.ContainsFunc(w.machine("web").Spec.Disks, func(d hypervisor.Disk) bool { return d.File == file && d.CDROM })
	}
	if !in(filepath.Join(w.Config.ISODir, "a.iso")) {
		t.Errorf("%+v", w.machine("web").Spec.Disks)
	}
	w.refused("/libvirt/isos/delete", map[string]any{"filename": "a.iso"}, http.StatusBadRequest, "web")
	if err := w.driver.Start(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	w.must("/libvirt/domain/attach-iso", map[string]any{"vm_name": "web", "iso_path": filepath.Join(w.Config.ISODir, "b.iso"), "device": device})
	if !in(filepath.Join(w.Config.ISODir, "b.iso")) || in(filepath.Join(w.Config.ISODir, "a.iso")) {
		t.Errorf("%+v", w.machine("web").Spec.Disks)
	}
	w.refused("/libvirt/domain/attach-iso", map[string]any{"vm_name": "web", "iso_path": "/etc/passwd"}, http.StatusNotFound, "iso_path")
	w.refused("/libvirt/domain/attach-iso", map[string]any{"vm_name": "web", "filename": "a.iso", "device": "sdz"}, http.StatusNotFound, "sdz")
	w.must("/libvirt/domain/detach-iso", map[string]any{"vm_name": "web"})
	w.refused("/libvirt/domain/detach-iso", map[string]any{"vm_name": "web"}, http.StatusBadRequest, "0 CD drives")
	w.must("/libvirt/isos/delete", map[string]any{"filename": "b.iso"})
	w.vm(false)
	w.refused("/libvirt/domain/attach-iso", map[string]any{"vm_name": "one", "filename": "a.iso"}, http.StatusBadRequest, "VM of this hypervisor")
}

func TestBatches(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var names []string
	for _, n := range []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"} {
		w.domain(n, false)
		names = append(names, n)
	}
	check := func(operation string, body map[string]any, successful, failed float64) {
		t.Helper()
		body["domains"] = append(slices.Clone(names), "nobody")
		answer := w.must("/libvirt/batch/"+operation, body)
		if answer["operation"] != operation || answer["total"] != 11.0 || answer["successful"] != successful || answer["failed"] != failed ||
			answer["start_time"] == nil || answer["end_time"] == nil || answer["duration"] == nil {
			t.Errorf("%s: %v", operation, answer)
		}
	}
	check("start", map[string]any{}, 10, 1)
	check("pause", map[string]any{}, 10, 1)
	if w.machine("c").State != hypervisor.Paused {
		t.Error("c is not paused")
	}
	check("resume", map[string]any{}, 10, 1)
	check("reboot", map[string]any{}, 10, 1)
	check("reboot", map[string]any{"force": true}, 10, 1)
	check("stop", map[string]any{"force": true}, 10, 1)
	w.refused("/libvirt/batch/start", map[string]any{"domains": []string{"a"}, "paused": true}, http.StatusNotImplemented, "paused")
	w.refused("/libvirt/batch/start", map[string]any{"domains": []string{"a"}, "force": true}, http.StatusBadRequest, "force")
	w.refused("/libvirt/batch/start", map[string]any{}, http.StatusBadRequest, "domains")
	w.refused("/libvirt/batch/start", map[string]any{"domains": []string{"a", "a"}}, http.StatusBadRequest, "twice")
	check("start", map[string]any{}, 10, 1)
	check("delete", map[string]any{}, 0, 11)
	check("delete", map[string]any{"force": true, "remove_storage": true}, 10, 1)
	if entries, err := os.ReadDir(w.dir); err != nil || len(entries) != 0 {
		t.Errorf("%v %v", entries, err)
	}
}

func TestBatchSnapshots(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, name := range []string{"a", "b"} {
		file := w.file(name, "x")
		w.define(hypervisor.Spec{UUID: uuid.NewString(), Name: name, CPUs: 1, MemoryBytes: 64 << 20, Disks: []hypervisor.Disk{{File: file, Format: hypervisor.DiskQCOW2}}}, true)
	}
	w.domain("raw", true) // which can not be kept
	count := func(name string) float64 {
		return w.must("/libvirt/snapshots?name="+name, nil)["total"].(float64) //nolint:forcetypeassert // the test fails
	}
	answer := w.must("/libvirt/batch/snapshot", map[string]any{"domains": []string{"a", "b", "raw"}, "name_prefix": "p", "atomic": true})
	if answer["successful"] != 0.0 || answer["failed"] != 3.0 || count("a") != 0 {
		t.Errorf("atomic: %v", answer)
	}
	answer = w.must("/libvirt/batch/snapshot", map[string]any{"domains": []string{"a", "b", "raw"}, "name_prefix": "p"})
	if answer["successful"] != 2.0 || count("a") != 1 || count("b") != 1 {
		t.Errorf("%v", answer)
	}
	if answer := w.must("/libvirt/batch/snapshot", map[string]any{"domains": []string{"a"}, "disk_only": true}); answer["failed"] != 1.0 {
		t.Errorf("%v", answer)
	}
	w.must("/libvirt/batch/delete", map[string]any{"domains": []string{"a", "b"}, "snapshots_only": true})
	if count("a") != 0 || w.machine("a") == nil {
		t.Error("the snapshot is there, or the domain is not")
	}
}

func TestConsolePages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	vm := w.vm(true)
	w.domain("<script>", true)
	for path, want := range map[string]string{
		"/console/vnc?name=one":                   "/v1/vms/" + vm.GetUuid() + "/console",
		"/console/serial?name=one":                "/v1/vms/" + vm.GetUuid() + "/serial",
		"/console/vnc?name=%3Cscript%3E":          "cannot show the display",
		"/console/serial?name=" + vm.GetUuid():    "/serial",
		"/console/serial?name=%3Cscript%3E":       "cannot show the serial port",
		"/console/vnc?name=" + vm.GetUuid() + "#": "connecting to",
	} {
		code, raw := w.do(http.MethodGet, path, "", nil)
		if code != http.StatusOK || !strings.Contains(strings.ReplaceAll(string(raw), `\/`, "/"), want) || bytes.Contains(raw, []byte("<h1><script>")) {
			t.Errorf("%s: %d %s", path, code, raw)
		}
	}
	w.refused("/console/vnc?name=nobody", nil, http.StatusNotFound, "nobody")
	w.refused("/console/vnc", nil, http.StatusBadRequest, "name")
	if code, raw := w.do(http.MethodGet, "/console/screenshot?name=one", "", nil); code != http.StatusOK || !bytes.HasPrefix(raw, []byte("\x89PNG")) {
		t.Errorf("%d %.80s", code, raw)
	}
}
