package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"image/png"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hyperplane-project/hyperplane/test/privatelibvirt"
)

// strange is a name that breaks what is put together of texts.
const strange = `old "box" <1> & 'co'`

// libvirtAPI calls HyperSDK's paths of the shipped daemon through its admin socket.
type libvirtAPI struct {
	t      *testing.T
	client *http.Client
	lv     *privatelibvirt.Instance
}

func newLibvirtAPI(t *testing.T) *libvirtAPI {
	t.Helper()
	d, lv := startOnLibvirt(t, nil)
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(d.dir, "sock"))
	}}
	t.Cleanup(tr.CloseIdleConnections)
	return &libvirtAPI{t: t, client: &http.Client{Transport: tr}, lv: lv}
}

// virsh does what an operator did before there was Hyperplane.
func (a *libvirtAPI) virsh(args ...string) {
	a.t.Helper()
	args = append([]string{"-c", "qemu+unix:///system?socket=" + a.lv.Socket}, args...)
	if out, err := exec.CommandContext(a.t.Context(), "virsh", args...).CombinedOutput(); err != nil {
		a.t.Fatalf("virsh %v: %v: %s", args, err, out)
	}
}

func (a *libvirtAPI) send(method, path string, q url.Values, contentType string, body io.Reader) (int, []byte) {
	a.t.Helper()
	req, err := http.NewRequestWithContext(a.t.Context(), method, "http://daemon"+path+"?"+q.Encode(), body)
	if err != nil {
		a.t.Fatal(err)
	}
	req.Header.Set("Content-Type", contentType)
	res, err := a.client.Do(req)
	if err != nil {
		a.t.Fatal(err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		a.t.Fatal(err)
	}
	return res.StatusCode, raw
}

// object is an answer in JSON.
type object = map[string]any

func (a *libvirtAPI) get(path string, params ...string) object {
	a.t.Helper()
	q := url.Values{}
	for pair := range slices.Chunk(params, 2) {
		q.Set(pair[0], pair[1])
	}
	code, raw := a.send(http.MethodGet, path, q, "", http.NoBody)
	if code != http.StatusOK {
		a.t.Fatalf("%s: %d %s", path, code, raw)
	}
	return parse[object](a.t, string(raw))
}

func (a *libvirtAPI) post(want int, path string, body object) string {
	a.t.Helper()
	raw, err := json.Marshal(body)
	if err != nil {
		a.t.Fatal(err)
	}
	code, answer := a.send(http.MethodPost, path, nil, "application/json", bytes.NewReader(raw))
	if code != want {
		a.t.Fatalf("%s: %d, not %d: %s", path, code, want, answer)
	}
	return string(answer)
}

// named finds an entry of a list.
func (a *libvirtAPI) named(list any, name string) object {
	a.t.Helper()
	for _, e := range list.([]any) {
		if e.(object)["name"] == name {
			return e.(object)
		}
	}
	a.t.Fatalf("no %q in %v", name, list)
	return nil
}

func (a *libvirtAPI) expect(what string, got, want any) {
	a.t.Helper()
	// As JSON, in which a number is a number.
	left, err := json.Marshal(got)
	right, err2 := json.Marshal(want)
	if err := errors.Join(err, err2); err != nil || !bytes.Equal(left, right) {
		a.t.Errorf("%s: %s, not %s (%v)", what, left, right, err)
	}
}

// define makes a pool, a volume, a network and a domain by virsh.
func (a *libvirtAPI) define() {
	a.t.Helper()
	dir := a.t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		write(a.t, path, text)
		return path
	}
	if err := os.Mkdir(filepath.Join(dir, "images"), 0o755); err != nil {
		a.t.Fatal(err)
	}
	a.virsh("pool-define-as", "old pool", "dir", "--target", filepath.Join(dir, "images"))
	a.virsh("pool-start", "old pool")
	a.virsh("vol-create-as", "old pool", "disk.qcow2", "16M", "--format", "qcow2")
	a.virsh("net-define", file("net.xml", `<network><name>old-net</name><bridge name='oldbr0' stp='off' delay='0'/><ip address='10.99.0.1' prefix='24'/></network>`))
	a.virsh("net-start", "old-net")
	a.virsh("define", file("domain.xml", `<domain type='qemu'><name>old "box" &lt;1&gt; &amp; 'co'</name><memory unit='MiB'>64</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='q35'>hvm</type></os><devices>
<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='`+filepath.Join(dir, "images", "disk.qcow2")+`'/><target dev='vda' bus='virtio'/></disk>
<serial type='pty'/><graphics type='vnc' port='-1' autoport='yes' listen='127.0.0.1'/><video><model type='vga'/></video></devices></domain>`))
}

// TestLibvirtPaths uses what was on the host before the daemon, through the daemon.
func TestLibvirtPaths(t *testing.T) {
	t.Parallel()
	a := newLibvirtAPI(t)
	a.define()

	d := a.named(a.get("/libvirt/domains")["domains"], strange)
	a.expect("state", d["state"], "shut off")
	a.expect("memory", d["memory"], 64)
	a.expect("managed", d["managed"], false)
	a.post(http.StatusOK, "/libvirt/domain/start", object{"name": strange})
	d = a.get("/libvirt/domain", "name", strange)
	a.expect("state", d["state"], "running")
	a.expect("persistent", d["persistent"], true)
	if d["id"] == "-" {
		t.Errorf("a running domain has no id: %v", d)
	}
	a.machine(d["uuid"].(string))
	a.snapshots()
	a.storage()
	a.network()
	a.refuses()
}

// machine looks into a running domain and changes what it does.
func (a *libvirtAPI) machine(uuid string) {
	a.t.Helper()
	a.post(http.StatusOK, "/libvirt/domain/pause", object{"name": strange})
	a.expect("paused", a.get("/libvirt/domain", "name", uuid)["state"], "paused")
	a.post(http.StatusOK, "/libvirt/domain/resume", object{"name": strange})
	a.post(http.StatusOK, "/libvirt/domain/send-key", object{"name": strange, "keys": []string{"ctrl-alt-del"}})
	c := a.get("/console/info", "name", strange)
	a.expect("vnc and serial", []any{c["has_vnc"], c["vnc_port"], c["has_serial"]}, []any{true, 5900, true})
	_, raw := a.send(http.MethodGet, "/console/screenshot", url.Values{"name": {strange}}, "", http.NoBody)
	if picture, err := png.DecodeConfig(bytes.NewReader(raw)); err != nil || picture.Width < 320 {
		a.t.Errorf("screenshot: %v %v: %.300s", picture, err, raw)
	}
	s := a.get("/libvirt/stats", "name", strange)
	cpu := s["cpu"].(object)
	if cpu["usage_percent"].(float64) <= 0 || cpu["cpu_time_ns"].(float64) <= 0 {
		a.t.Errorf("a machine that looks for something to boot uses no processor: %v", cpu)
	}
	a.expect("disks", len(s["disks"].([]any)), 1)
	a.expect("all", a.get("/libvirt/stats/all")["total"], 1)
	if h := a.get("/libvirt/stats/host"); h["cpus"].(float64) < 1 || h["available_kb"].(float64) <= 0 || h["usage_percent"].(float64) < 0 {
		a.t.Errorf("host: %v", h)
	}
	if m := a.get("/libvirt/stats/memory", "name", strange)["memory"].(object); m["total_kb"].(float64) != 64<<10 || m["used_kb"].(float64) <= 0 {
		a.t.Errorf("memory: %v", m)
	}
}

// snapshots takes one of the running domain, and comes back to it from a domain that is off.
func (a *libvirtAPI) snapshots() {
	a.t.Helper()
	name := `before <update> & 'so'`
	a.post(http.StatusCreated, "/libvirt/snapshot/create", object{"domain_name": strange, "snapshot_name": name, "description": "<it> ran"})
	a.post(http.StatusConflict, "/libvirt/snapshot/create", object{"domain_name": strange, "snapshot_name": name})
	s := a.named(a.get("/libvirt/snapshots", "name", strange)["snapshots"], name)
	a.expect("snapshot", []any{s["description"], s["state"], s["current"]}, []any{"<it> ran", "running", true})
	a.post(http.StatusOK, "/libvirt/domain/destroy", object{"name": strange})
	a.expect("off", a.get("/libvirt/domain", "name", strange)["state"], "shut off")
	a.post(http.StatusOK, "/libvirt/snapshot/revert", object{"domain_name": strange, "snapshot_name": name})
	a.expect("reverted", a.get("/libvirt/domain", "name", strange)["state"], "running")
	a.post(http.StatusOK, "/libvirt/snapshot/delete", object{"domain_name": strange, "snapshot_name": name})
	a.expect("snapshots left", a.get("/libvirt/snapshots", "name", strange)["total"], 0)
}

// storage works on the old pool and one of its own.
func (a *libvirtAPI) storage() {
	a.t.Helper()
	a.expect("pool", a.named(a.get("/libvirt/pools")["pools"], "old pool")["state"], "active")
	v := a.named(a.get("/libvirt/volumes", "pool", "old pool")["volumes"], "disk.qcow2")
	a.expect("volume", []any{v["format"], v["capacity"]}, []any{"qcow2", 16 << 20})
	used := object{"pool": "old pool", "volume": "disk.qcow2", "capacity": 1}
	if text := a.post(http.StatusBadRequest, "/libvirt/volume/resize", used); !strings.Contains(text, "co") {
		a.t.Errorf("the error does not name the domain: %s", text)
	}
	a.post(http.StatusOK, "/libvirt/domain/destroy", object{"name": strange})
	a.post(http.StatusOK, "/libvirt/volume/resize", used)
	a.expect("resized", a.get("/libvirt/volume/info", "pool", "old pool", "volume", "disk.qcow2")["capacity"], 1<<30)
	a.post(http.StatusBadRequest, "/libvirt/volume/delete", object{"pool": "old pool", "volume": "disk.qcow2"})

	a.post(http.StatusCreated, "/libvirt/pool/create", object{"name": "new & pool", "path": filepath.Join(a.t.TempDir(), "new")})
	a.post(http.StatusCreated, "/libvirt/volume/create", object{"pool": "new & pool", "name": "data <1>", "format": "raw", "capacity": 1})
	a.post(http.StatusCreated, "/libvirt/volume/clone",
		object{"pool": "new & pool", "source_volume": "data <1>", "target_volume": "twin", "target_pool": "old pool"})
	a.named(a.get("/libvirt/volumes", "pool", "old pool")["volumes"], "twin")
	code, raw := a.send(http.MethodPost, "/libvirt/volume/upload", url.Values{"pool": {"new & pool"}, "volume": {"sent"}}, "application/octet-stream",
		strings.NewReader(strings.Repeat("sent", 1<<18)))
	a.expect("upload: "+string(raw), code, http.StatusCreated)
	_, raw = a.send(http.MethodGet, "/libvirt/volume/download", url.Values{"pool": {"new & pool"}, "volume": {"sent"}}, "", http.NoBody)
	a.expect("download", len(raw) == 1<<20 && strings.HasPrefix(string(raw), "sentsent"), true)
	a.post(http.StatusOK, "/libvirt/volume/wipe", object{"pool": "new & pool", "volume": "sent"})
	for _, volume := range []string{"sent", "data <1>"} {
		a.post(http.StatusOK, "/libvirt/volume/delete", object{"pool": "new & pool", "volume": volume})
	}
	a.post(http.StatusOK, "/libvirt/volume/delete", object{"pool": "old pool", "volume": "twin"})
	a.post(http.StatusOK, "/libvirt/pool/delete", object{"name": "new & pool"})
}

// network gives the domain, which is off, a card in the old network and in one of its own.
func (a *libvirtAPI) network() {
	a.t.Helper()
	n := a.named(a.get("/libvirt/networks")["networks"], "old-net")
	a.expect("network", []any{n["bridge"], n["active"], n["managed"]}, []any{"oldbr0", true, false})
	a.post(http.StatusCreated, "/libvirt/network/create",
		object{"name": "new-net", "bridge": "newbr0", "forward": "none", "subnet": "10.98.0.1", "ip_start": "10.98.0.10", "ip_end": "10.98.0.20"})
	answer := parse[object](a.t, a.post(http.StatusOK, "/libvirt/interface/attach", object{"vm_name": strange, "network": "new-net", "model": "e1000"}))
	a.post(http.StatusOK, "/libvirt/domain/start", object{"name": strange})
	a.expect("cards", a.get("/libvirt/interfaces", "name", strange)["total"], 1)
	a.expect("measured cards", len(a.get("/libvirt/stats/network", "name", strange)["networks"].([]any)), 1)
	a.post(http.StatusBadRequest, "/libvirt/network/stop", object{"name": "new-net"})
	a.post(http.StatusOK, "/libvirt/domain/destroy", object{"name": strange})
	a.post(http.StatusOK, "/libvirt/interface/detach", object{"vm_name": strange, "mac": answer["mac"]})
	a.expect("cards", a.get("/libvirt/interfaces", "name", strange)["total"], 0)
	a.post(http.StatusOK, "/libvirt/network/stop", object{"name": "old-net"})
	for _, name := range []string{"new-net", "old-net"} {
		a.post(http.StatusOK, "/libvirt/network/delete", object{"name": name})
	}
	a.expect("networks left", a.get("/libvirt/networks")["total"], 0)
}

// refuses sends what HyperSDK took.
func (a *libvirtAPI) refuses() {
	a.t.Helper()
	for path, body := range map[string]object{
		"/libvirt/domain/start":     {"name": "x", "force": true},
		"/libvirt/volume/upload":    {"pool": "old pool", "volume": "v", "source_path": "/etc/passwd"},
		"/libvirt/volume/create":    {"pool": "old pool", "name": "../v", "capacity": 1},
		"/libvirt/pool/create":      {"name": "p", "path": "/etc"},
		"/libvirt/network/create":   {"name": "n'/><x", "subnet": "10.97.0.1"},
		"/libvirt/snapshot/create":  {"domain_name": strange, "snapshot_name": "../../x"},
		"/libvirt/snapshot/create ": {"domain_name": strange, "snapshot_name": `"x"`},
		"/libvirt/volume/wipe":      {"pool": "old pool", "volume": "disk.qcow2", "algorithm": "; rm"},
	} {
		a.post(http.StatusBadRequest, strings.TrimSpace(path), body)
	}
	if text := a.post(http.StatusBadRequest, "/libvirt/domain/start", object{"name": "x", "force": true}); !strings.Contains(text, "force") {
		a.t.Errorf("the unknown field is not named: %s", text)
	}
	a.post(http.StatusNotFound, "/libvirt/domain/start", object{"name": "; rm -rf /"})
}
