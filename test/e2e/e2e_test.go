// Package e2e tests the shipped programs from outside: they are built, started and talked to as a user does.
package e2e

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hyperplane-project/hyperplane/test/proc"
)

// programs builds the programs once, and returns the folder they are in.
var programs = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "hyperplane-bin-")
	if err != nil {
		return "", err
	}
	out, err := exec.Command("go", "build", "-o", dir+"/", "../../cmd/hypervisord", "../../cmd/hyperctl", "../../cmd/hyperexport", "../../cmd/vcentersim").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build: %w\n%s", err, out)
	}
	return dir, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if dir, err := programs(); err == nil {
		_ = os.RemoveAll(dir)
	}
	os.Exit(code)
}

func program(t *testing.T, name string) string {
	t.Helper()
	dir, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, name)
}

// secret is the vCenter's password: no program may show it.
const secret = "hunter2-of-the-vcenter"

// vcenter is a running simulator.
type vcenter struct {
	*proc.Program
	t                *testing.T
	url, ca, control string
	password         string
	sums             map[string]string // SHA-256 of each VM's disk
}

// startVCenter starts a simulator with a VM for each name; those that begin with "on" run.
func startVCenter(t *testing.T, size int64, names ...string) *vcenter {
	t.Helper()
	dir := t.TempDir()
	v := &vcenter{t: t, ca: filepath.Join(dir, "ca.pem"), password: filepath.Join(dir, "password"), sums: make(map[string]string)}
	write(t, v.password, secret+"\n")
	v.control = freeAddress(t)
	args := []string{
		"--username", "export", "--password-file", v.password, "--cert-out", v.ca, "--url-file", filepath.Join(dir, "url"),
		"--control", v.control, "--lease-timeout", "20s",
	}
	for i, name := range names {
		disk := filepath.Join(dir, name+".raw")
		v.sums[name] = makeDisk(t, disk, size, uint64(i))
		power := "off"
		if strings.HasPrefix(name, "on") {
			power = "on"
		}
		args = append(args, "--vm", "name="+name+",memory=64,power="+power+",disk="+disk)
	}
	v.Program = start(t, nil, "vcentersim", args...)
	url, err := v.File(t.Context(), filepath.Join(dir, "url"))
	if err != nil {
		t.Fatal(err)
	}
	v.url = url
	return v
}

// makeDisk writes a disk of data and holes and returns the SHA-256 of its content.
func makeDisk(t *testing.T, path string, size int64, seed uint64) string {
	t.Helper()
	data := make([]byte, size)
	r := rand.New(rand.NewPCG(seed, 7))
	for off := int64(0); off < size; off += 512 << 10 {
		if r.IntN(4) == 0 {
			continue
		}
		block := data[off:min(size, off+400<<10)]
		for i := range block {
			block[i] = byte(r.IntN(97))
		}
	}
	write(t, path, string(data))
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil { //nolint:gosec // the paths are the tests' own
		t.Fatal(err)
	}
}

// start starts a program that ends with the test.
func start(t *testing.T, env []string, name string, args ...string) *proc.Program {
	t.Helper()
	p, err := proc.Start(nil, env, program(t, name), args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Kill() })
	return p
}

// env is how programs are told of the vCenter.
func (v *vcenter) env() []string {
	return []string{"GOVC_URL=" + v.url, "GOVC_USERNAME=export", "GOVC_PASSWORD=" + secret, "GOVC_TLS_CA_CERTS=" + v.ca}
}

// inject adds a fault.
func (v *vcenter) inject(fault string) {
	v.t.Helper()
	v.call(http.MethodPost, "/faults", fault, nil)
}

// lease is an export lease.
type lease struct {
	State string `json:"state"`
}

// record is what the simulator says of itself.
type record struct {
	Leases    []lease `json:"leases"`
	Snapshots []struct {
		Name string `json:"name"`
	} `json:"snapshots"`
}

// clean checks that nothing is left at the source. A lease of a daemon that was killed ends when the vCenter hears nothing of it for a while.
func (v *vcenter) clean() {
	v.t.Helper()
	eventually(v.t, func() (record, bool) {
		var r record
		v.call(http.MethodGet, "/record", "", &r)
		open := slices.ContainsFunc(r.Leases, func(l lease) bool { return l.State == "open" })
		return r, len(r.Snapshots) == 0 && !open
	})
}

func (v *vcenter) call(method, path, body string, answer any) {
	v.t.Helper()
	req, err := http.NewRequestWithContext(v.t.Context(), method, "http://"+v.control+path, strings.NewReader(body))
	if err != nil {
		v.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := (&http.Client{}).Do(req)
	if err != nil {
		v.t.Fatal(err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode >= 300 {
		v.t.Fatalf("%s %s: %s %s %v", method, path, res.Status, raw, err)
	}
	if answer != nil {
		if err := json.Unmarshal(raw, answer); err != nil {
			v.t.Fatal(err)
		}
	}
}

// daemon is a hypervisord that can be killed and started again on its state.
type daemon struct {
	*proc.Program
	t    *testing.T
	dir  string
	env  []string
	args []string
}

func startDaemon(t *testing.T, env []string, args ...string) *daemon {
	t.Helper()
	dir, err := os.MkdirTemp("", "hp-e2e-") //nolint:usetesting // sockets lie below it, whose paths must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	d := &daemon{t: t, dir: dir, env: env}
	d.args = append([]string{
		"--state-dir", filepath.Join(dir, "state"), "--socket", filepath.Join(dir, "sock"), "--listen", "127.0.0.1:0",
		"--address-file", filepath.Join(dir, "address"),
	}, args...)
	d.start()
	return d
}

func (d *daemon) start() {
	d.t.Helper()
	_ = os.Remove(filepath.Join(d.dir, "address"))
	d.Program = start(d.t, d.env, "hypervisord", d.args...)
	if _, err := d.File(d.t.Context(), filepath.Join(d.dir, "address")); err != nil {
		d.t.Fatal(err)
	}
}

// ctl runs hyperctl through the admin socket.
func (d *daemon) ctl(args ...string) (string, error) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), 2*time.Minute)
	defer cancel()
	return proc.Run(ctx, []string{"HYPERPLANE_SERVER=unix://" + filepath.Join(d.dir, "sock")}, program(d.t, "hyperctl"), args...)
}

func (d *daemon) must(args ...string) string {
	d.t.Helper()
	out, err := d.ctl(args...)
	if err != nil {
		d.t.Fatalf("%v\n%s", err, d.Output())
	}
	return out
}

// job is a job as hyperctl -o json shows it.
type job struct {
	ID       string `json:"id"`
	State    string `json:"state"`
	Resumes  int    `json:"resumes"`
	Progress struct {
		BytesDone string `json:"bytes_done"`
	} `json:"progress"`
	Error *struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	} `json:"error"`
	Result struct {
		Files []struct {
			Path          string `json:"path"`
			ContentSHA256 string `json:"content_sha256"`
		} `json:"files"`
	} `json:"result"`
}

func (d *daemon) submit(args ...string) job {
	d.t.Helper()
	return parse[job](d.t, d.must(append([]string{"job", "submit", "-o", "json"}, args...)...))
}

func parse[T any](t *testing.T, text string) (v T) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return v
}

// wait polls a job until done says so.
func (d *daemon) wait(id string, done func(job) bool) job {
	d.t.Helper()
	return eventually(d.t, func() (job, bool) {
		j := parse[job](d.t, d.must("job", "get", id, "-o", "json"))
		return j, done(j)
	})
}

func ended(j job) bool { return j.State != "JOB_STATE_PENDING" && j.State != "JOB_STATE_RUNNING" }

// eventually polls until ok.
func eventually[T any](t *testing.T, poll func() (T, bool)) T {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		v, ok := poll()
		if ok {
			return v
		}
		if time.Now().After(deadline) {
			t.Fatalf("not in a minute; last: %+v", v)
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		}
	}
}

// entries lists a folder, hidden files included.
func entries(t *testing.T, dir string) []string {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}
