package appliance_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/server/guestfs"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
	"github.com/hyperplane-project/hyperplane/server/servertest"
)

// TestMain lets the test program be the server's child for guests' file systems.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == guestfs.Argument {
		os.Exit(guestfs.Main(context.Background(), os.Stdin, os.Stdout)) //nolint:forbidigo // the root of the child's work
	}
	os.Exit(m.Run())
}

// world is a server with domains that it did not make.
type world struct {
	*servertest.Server
	t      *testing.T
	driver hypervisor.Driver
	dir    string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	s := servertest.Start(t, nil)
	d := s.Host.Open()
	t.Cleanup(func() { _ = d.Close() })
	return &world{s, t, d, t.TempDir()}
}

// domain makes one with a raw and a QCOW2 disk (made by the server's own conversion), and returns its UUID and its raw disk.
func (w *world) domain(name string, running bool) (id, disk string) {
	w.t.Helper()
	disk = w.file(name+"-a.raw", strings.Repeat(name+"!", 4096))
	id = uuid.NewString()
	spec := hypervisor.Spec{
		UUID: id, Name: name, CPUs: 1, MemoryBytes: 64 << 20, Disks: []hypervisor.Disk{{File: disk}}, NICs: []hypervisor.NIC{{MAC: "52:54:00:aa:bb:01", Bridge: "br0"}},
	}
	w.define(spec, running)
	return id, disk
}

func (w *world) define(spec hypervisor.Spec, running bool) {
	w.t.Helper()
	if err := w.driver.Define(w.t.Context(), spec); err != nil {
		w.t.Fatal(err)
	}
	if running {
		if err := w.driver.Start(w.t.Context(), spec.UUID); err != nil {
			w.t.Fatal(err)
		}
	}
}

// file makes a file of a multiple of 512 bytes.
func (w *world) file(name, content string) string {
	w.t.Helper()
	path := filepath.Join(w.dir, name)
	raw := append([]byte(content), make([]byte, (512-len(content)%512)%512)...)
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		w.t.Fatal(err)
	}
	return path
}

// machine returns a machine by its name, or nil.
func (w *world) machine(name string) *hypervisor.Machine {
	w.t.Helper()
	all, err := w.driver.List(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	for i := range all {
		if all[i].Name == name {
			return &all[i]
		}
	}
	return nil
}

// call makes a request with a JSON body (nil = GET), and returns the answer.
func (w *world) call(path string, body any) (int, map[string]any) {
	w.t.Helper()
	method, reader := http.MethodGet, io.Reader(nil)
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			w.t.Fatal(err)
		}
		method, reader = http.MethodPost, bytes.NewReader(raw)
	}
	code, raw := w.do(method, path, "application/json", reader)
	answer := make(map[string]any)
	if err := json.Unmarshal(raw, &answer); err != nil {
		w.t.Fatalf("%s: %v: %s", path, err, raw)
	}
	return code, answer
}

func (w *world) do(method, path, contentType string, body io.Reader) (int, []byte) {
	w.t.Helper()
	client, base := w.HTTP()
	req, err := http.NewRequestWithContext(w.t.Context(), method, base+path, body)
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+w.Token())
	req.Header.Set("Content-Type", contentType)
	res, err := client.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return res.StatusCode, raw
}

// must is call for a request that succeeds.
func (w *world) must(path string, body any) map[string]any {
	w.t.Helper()
	code, answer := w.call(path, body)
	if code != http.StatusOK {
		w.t.Fatalf("%s: %d %v", path, code, answer)
	}
	return answer
}

// refused is call for a request that fails with a status and a text.
func (w *world) refused(path string, body any, status int, says string) {
	w.t.Helper()
	code, answer := w.call(path, body)
	if code != status || !strings.Contains(fmt.Sprint(answer["error"]), says) {
		w.t.Errorf("%s %v: %d %v, want %d and %q", path, body, code, answer, status, says)
	}
}

// vm creates the VM "one" of 1 MiB, and returns it.
func (w *world) vm(running bool) *hypervisorv1.VmInfo {
	w.t.Helper()
	stream, err := hypervisorv1.NewVmServiceClient(w.Dial(true)).CreateVm(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	spec := &hypervisorv1.CreateVmSpec{
		VmInfo:           &hypervisorv1.VmInfo{Hostname: "one", MemoryInMib: 64, MilliCpus: 250, Tags: map[string]string{"a": "b"}, ConsoleType: hypervisorv1.ConsoleType_CONSOLE_TYPE_VNC},
		MinimumFreeBytes: 1 << 20, DoNotStart: !running,
	}
	if err := stream.Send(&hypervisorv1.CreateVmRequest{Part: &hypervisorv1.CreateVmRequest_Spec{Spec: spec}}); err != nil {
		w.t.Fatal(err)
	}
	for {
		m, err := stream.Recv()
		if err != nil {
			w.t.Fatal(err)
		}
		if m.GetFinal() {
			return m.GetVmInfo()
		}
	}
}

func (w *world) volume(uuid string) string { return filepath.Join(w.Config.VolumeDir, uuid, "root") }

func (w *world) read(path string) string {
	w.t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		w.t.Fatal(err)
	}
	return string(raw)
}

func (w *world) write(path, content string) {
	w.t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// clean fails if something half-made is left.
func (w *world) clean() {
	w.t.Helper()
	for _, dir := range []string{w.dir, w.Config.BackupDir, w.Config.TemplateDir, w.Config.ISODir, filepath.Join(w.Config.VolumeDir, ".staging")} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			w.t.Fatal(err)
		}
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), ".") || strings.HasPrefix(e.Name(), "appliance-") {
				w.t.Errorf("%s is left in %s", e.Name(), dir)
			}
		}
	}
}
