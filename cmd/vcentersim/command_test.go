package main

import (
	"bytes"
	"context"
	"encoding/pem"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vmware/govmomi"
	"github.com/vmware/govmomi/find"
	"github.com/vmware/govmomi/vim25/soap"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

func TestParseVM(t *testing.T) {
	t.Parallel()
	got, err := parseVM("name=web,folder=a/b,cpus=2,memory=2048,firmware=efi,secureboot=true,guest=ubuntu64Guest,power=on,disk=x.raw,mac=00:50:56:01:02:03,disk=y.raw")
	if err != nil {
		t.Fatal(err)
	}
	want := vmSpec{
		Name: "web", Folder: "a/b", CPUs: 2, Memory: 2048, Firmware: "efi", SecureBoot: true, Guest: "ubuntu64Guest", Power: "on",
		Disks: []diskSpec{{File: "x.raw"}, {File: "y.raw"}}, NICs: []nicSpec{{MAC: "00:50:56:01:02:03"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	for _, bad := range []string{"", "web", "name=", "name=web,ram=3", "name=web,cpus=two", "name=web,cpus=99999999999", "name=web,secureboot=perhaps", "name=web,"} {
		if _, err := parseVM(bad); !fault.Is(err, fault.InvalidArgument) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestInventory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(text string) string {
		name := filepath.Join(dir, "inventory.yaml")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	got, err := readInventory(write(`
vms:
  - name: web
    power: on
    disks:
      - {file: web.raw, bus: sata}
      - {file: /abs/data.raw}
    nics:
      - {network: DC0_DVPG0}
`))
	if err != nil {
		t.Fatal(err)
	}
	want := []vmSpec{{
		Name: "web", Power: "on", NICs: []nicSpec{{Network: "DC0_DVPG0"}},
		Disks: []diskSpec{{File: filepath.Join(dir, "web.raw"), Bus: "sata"}, {File: "/abs/data.raw"}},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if _, err := readInventory(write("vms:\n  - name: web\n    ram: 4\n")); !fault.Is(err, fault.InvalidArgument) || !strings.Contains(err.Error(), "ram") {
		t.Errorf("an unknown key gives %v", err)
	}
	if got, err := readInventory(write("")); err != nil || len(got) != 0 {
		t.Errorf("an empty file gives %v, %v", got, err)
	}
}

func FuzzParseVM(f *testing.F) {
	f.Add("name=web,cpus=2,disk=a,disk=b")
	f.Add("name==,,=")
	f.Fuzz(func(t *testing.T, text string) {
		if _, err := parseVM(text); err != nil && !fault.Is(err, fault.InvalidArgument) {
			t.Errorf("%q: %v", text, err)
		}
	})
}

// output collects what a command prints while it runs.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// TestServe runs the command until its context ends, logs in with what it wrote, and lists its VMs.
func TestServe(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	for name, data := range map[string][]byte{"web.raw": make([]byte, 1<<20), "secret": []byte("opensesame\n")} {
		if err := os.WriteFile(in(name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var out output
	cmd := newCommand()
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	cmd.SetArgs([]string{
		"--vm", "name=web,power=on,disk=" + in("web.raw"), "--username", "root", "--password-file", in("secret"),
		"--cert-out", in("ca.pem"), "--url-file", in("url"), "--control", "127.0.0.1:0", "--prepare", "--verbose",
	})
	done := make(chan error, 1)
	go func() { done <- cmd.ExecuteContext(ctx) }()

	at := waitFile(t, in("url"), done)
	cert, err := os.ReadFile(in("ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	if block, _ := pem.Decode(cert); block == nil {
		t.Errorf("ca.pem is %q", cert)
	}
	u, err := soap.ParseURL(at)
	if err != nil {
		t.Fatal(err)
	}
	listVMs(t, u.Host)
	control := strings.TrimSpace(strings.TrimPrefix(firstWith(out.String(), "control "), "control "))
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, control+"/record", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := new(http.Client).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != http.StatusOK {
		t.Errorf("control endpoint: %s", res.Status)
	}
	_ = res.Body.Close()

	cancel()
	if err := <-done; err != nil {
		t.Errorf("the command ends with %v\n%s", err, out.String())
	}
}

func waitFile(t *testing.T, name string, done <-chan error) string {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if data, err := os.ReadFile(name); err == nil {
			return strings.TrimSpace(string(data))
		}
		select {
		case <-tick.C:
		case err := <-done:
			t.Fatalf("the command ended: %v", err)
		case <-t.Context().Done():
			t.Fatal("the command does not serve")
		}
	}
}

func firstWith(text, prefix string) string {
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, prefix) {
			return line
		}
	}
	return ""
}

func listVMs(t *testing.T, host string) {
	t.Helper()
	u, err := soap.ParseURL("https://root:opensesame@" + host + "/sdk")
	if err != nil {
		t.Fatal(err)
	}
	c, err := govmomi.NewClient(t.Context(), u, true)
	if err != nil {
		t.Fatal(err)
	}
	vms, err := find.NewFinder(c.Client).VirtualMachineList(t.Context(), "/DC0/vm/*")
	if err != nil || len(vms) != 1 || vms[0].Name() != "web" {
		t.Errorf("VMs: %v, %v", vms, err)
	}
	if err := c.Logout(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	odd := filepath.Join(dir, "odd.raw")
	if err := os.WriteFile(odd, make([]byte, 100), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, args := range map[string][]string{
		"argument":          {"web"},
		"unknown flag":      {"--disks", "x"},
		"unknown key":       {"--vm", "name=web,ram=4"},
		"missing disk":      {"--vm", "name=web,disk=" + filepath.Join(dir, "none.raw")},
		"odd disk":          {"--vm", "name=web,disk=" + odd},
		"power":             {"--vm", "name=web,power=maybe"},
		"missing password":  {"--password-file", filepath.Join(dir, "none")},
		"missing inventory": {"--inventory", filepath.Join(dir, "none")},
		"control address":   {"--control", "0.0.0.0:0"},
		"listen address":    {"--listen", "nowhere"},
		"certificate file":  {"--cert-out", filepath.Join(dir, "no", "ca.pem")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out output
			cmd := newCommand()
			cmd.SetOut(&out)
			cmd.SetErr(&out)
			cmd.SetArgs(args)
			if err := cmd.ExecuteContext(t.Context()); err == nil {
				t.Errorf("no error; output: %s", out.String())
			}
		})
	}
}
