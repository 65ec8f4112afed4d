package vcentersim_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/vmware/govmomi"
	"github.com/vmware/govmomi/find"

	"github.com/hyperplane-project/hyperplane/converters/raw"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/providers/vsphere/vcentersim"
)

func start(t *testing.T, cfg vcentersim.Config) *vcentersim.Simulator {
	t.Helper()
	sim, err := vcentersim.New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.WithoutCancel(t.Context())
	t.Cleanup(func() {
		if err := sim.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return sim
}

func disk(data []byte) vcentersim.Disk {
	return vcentersim.Disk{Content: raw.New(bytes.NewReader(data), int64(len(data)))}
}

func login(t *testing.T, sim *vcentersim.Simulator, user, password string) (*govmomi.Client, error) {
	t.Helper()
	u, err := url.Parse(sim.URL())
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(user, password)
	return govmomi.NewClient(t.Context(), u, true)
}

func TestPasswordIsChecked(t *testing.T) {
	t.Parallel()
	sim := start(t, vcentersim.Config{Username: "root", Password: "secret"})
	if _, err := login(t, sim, "root", "secreT"); err == nil {
		t.Error("a wrong password is accepted")
	}
	if _, err := login(t, sim, "Root", "secret"); err == nil {
		t.Error("a wrong user is accepted")
	}
	c, err := login(t, sim, "root", "secret")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Logout(t.Context()); err != nil {
		t.Error(err)
	}
}

// get asks for a URL with the cookies of a client, or none.
func get(t *testing.T, jar http.CookieJar, at, ranges string) (int, string) {
	t.Helper()
	c := &http.Client{Jar: jar, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	defer c.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, at, nil)
	if err != nil {
		t.Fatal(err)
	}
	if ranges != "" {
		req.Header.Set("Range", ranges)
	}
	res, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

// TestFolder reads flat files of a datastore: with ranges, only when logged in, frozen by a snapshot, and not at all while the VM runs without one.
func TestFolder(t *testing.T) {
	t.Parallel()
	data := bytes.Repeat([]byte("0123456789abcdef"), 8<<10)
	sim := start(t, vcentersim.Config{VMs: []vcentersim.VM{{Name: "vm", PoweredOn: true, Disks: []vcentersim.Disk{disk(data)}}}})
	c, err := login(t, sim, "user", "pass")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Logout(t.Context()) }()
	at := strings.TrimSuffix(sim.URL(), "/sdk") + "/folder/vm/vm-flat.vmdk?dcPath=DC0&dsName=LocalDS_0"

	if status, _ := get(t, nil, at, ""); status != http.StatusUnauthorized {
		t.Errorf("without a session: %d", status)
	}
	stale, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	stale.SetCookies(c.URL(), []*http.Cookie{{Name: "vmware_soap_session", Value: "guess", Secure: true, HttpOnly: true, SameSite: http.SameSiteStrictMode}})
	if status, _ := get(t, stale, at, ""); status != http.StatusUnauthorized {
		t.Errorf("with a made-up session: %d", status)
	}
	if status, _ := get(t, c.Jar, at, ""); status != http.StatusInternalServerError {
		t.Errorf("of a running VM: %d", status)
	}
	if status, _ := get(t, c.Jar, strings.Replace(at, "vm-flat", "other-flat", 1), ""); status != http.StatusNotFound {
		t.Errorf("of no VM: %d", status)
	}
	if err := sim.CreateSnapshot(t.Context(), "vm", "s"); err != nil {
		t.Fatal(err)
	}
	if err := sim.WriteDisk("vm", 0, []byte("XXXX"), 32); err != nil {
		t.Fatal(err)
	}
	if status, body := get(t, c.Jar, at, "bytes=30-37"); status != http.StatusPartialContent || body != "ef012345" {
		t.Errorf("a range of the snapshot: %d %q", status, body)
	}
	if err := sim.RemoveSnapshots(t.Context(), "vm"); err != nil {
		t.Fatal(err)
	}
	if err := sim.SetPower(t.Context(), "vm", false); err != nil {
		t.Fatal(err)
	}
	copy(data[32:], "XXXX")
	if status, body := get(t, c.Jar, at, ""); status != http.StatusOK || body != string(data) {
		t.Errorf("of a stopped VM: %d, %d bytes", status, len(body))
	}
}

// TestExportNeedsPowerOff asks for what vCenter refuses.
func TestExportNeedsPowerOff(t *testing.T) {
	t.Parallel()
	sim := start(t, vcentersim.Config{VMs: []vcentersim.VM{
		{Name: "on", PoweredOn: true, Disks: []vcentersim.Disk{disk(make([]byte, 512))}},
		{Name: "off", Disks: []vcentersim.Disk{disk(make([]byte, 512))}},
	}})
	c, err := login(t, sim, "user", "pass")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Logout(t.Context()) }()
	finder := find.NewFinder(c.Client)
	on, err := finder.VirtualMachine(t.Context(), "/DC0/vm/on")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := on.Export(t.Context()); err == nil {
		t.Error("a running VM can be exported")
	}
	off, err := finder.VirtualMachine(t.Context(), "/DC0/vm/off")
	if err != nil {
		t.Fatal(err)
	}
	lease, err := off.Export(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := off.Export(t.Context()); err == nil {
		t.Error("a VM can be exported twice at the same time")
	}
	if err := sim.SetPower(t.Context(), "off", true); err == nil {
		t.Error("a VM can be started while a lease reads it")
	}
	if err := lease.Abort(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if err := sim.SetPower(t.Context(), "off", true); err != nil {
		t.Errorf("after the lease has ended: %v", err)
	}
	if state := sim.Record().Leases[0].State; state != vcentersim.LeaseAborted {
		t.Errorf("the lease is recorded as %s", state)
	}
}

func TestConfigRefused(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]vcentersim.Config{
		"password without user": {Password: "x"},
		"user without password": {Username: "x"},
		"negative time-out":     {LeaseTimeout: -1},
		"listen address":        {Listen: "nowhere"},
		"VM without name":       {VMs: []vcentersim.VM{{}}},
		"firmware":              {VMs: []vcentersim.VM{{Name: "vm", Firmware: "uefi"}}},
		"disk without content":  {VMs: []vcentersim.VM{{Name: "vm", Disks: []vcentersim.Disk{{}}}}},
		"disk of odd size":      {VMs: []vcentersim.VM{{Name: "vm", Disks: []vcentersim.Disk{disk(make([]byte, 511))}}}},
		"bus":                   {VMs: []vcentersim.VM{{Name: "vm", Disks: []vcentersim.Disk{{Content: disk(make([]byte, 512)).Content, Bus: "virtio"}}}}},
		"controller":            {VMs: []vcentersim.VM{{Name: "vm", Disks: []vcentersim.Disk{{Content: disk(make([]byte, 512)).Content, Controller: "x"}}}}},
		"network":               {VMs: []vcentersim.VM{{Name: "vm", NICs: []vcentersim.NIC{{Network: "nowhere"}}}}},
		"network card":          {VMs: []vcentersim.VM{{Name: "vm", NICs: []vcentersim.NIC{{Model: "ne2000"}}}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sim, err := vcentersim.New(t.Context(), cfg)
			if err == nil {
				_ = sim.Close(t.Context())
			}
			if !fault.Is(err, fault.InvalidArgument) {
				t.Errorf("error: %v", err)
			}
		})
	}
}

func TestInjectRefused(t *testing.T) {
	t.Parallel()
	sim := start(t, vcentersim.Config{VMs: []vcentersim.VM{{Name: "vm", Disks: []vcentersim.Disk{disk(make([]byte, 512))}}}})
	for _, f := range []vcentersim.Fault{
		{Kind: "flood", VM: "vm"},
		{Kind: vcentersim.FaultCut, VM: "no"},
		{Kind: vcentersim.FaultCut, VM: "vm", Disk: 1},
		{Kind: vcentersim.FaultCut, VM: "vm", AtPercent: 101},
		{Kind: vcentersim.FaultCut, VM: "vm", AfterBytes: -1},
		{Kind: vcentersim.FaultSlow, VM: "vm"},
	} {
		if err := sim.Inject(f); err == nil {
			t.Errorf("%+v is accepted", f)
		}
	}
}

// TestControl drives a simulator over HTTP.
func TestControl(t *testing.T) {
	t.Parallel()
	sim := start(t, vcentersim.Config{VMs: []vcentersim.VM{{Name: "vm", Disks: []vcentersim.Disk{disk(make([]byte, 1024))}}}})
	srv := httptest.NewServer(sim.Control())
	defer srv.Close()
	ask := func(method, at, body string) (int, string) {
		req, err := http.NewRequestWithContext(t.Context(), method, srv.URL+at, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		res, err := srv.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = res.Body.Close() }()
		text, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(text)
	}
	for _, one := range []struct {
		method, at, body string
		want             int
	}{
		{"POST", "/faults", `{"kind":"cut","vm":"vm","at_percent":50,"reads":2}`, 204},
		{"POST", "/faults", `{"kind":"cut","vm":"vm","percent":50}`, 400},
		{"POST", "/faults", `{"kind":"cut","vm":"no"}`, 404},
		{"DELETE", "/faults", "", 204},
		{"POST", "/writes?vm=vm&disk=0&offset=512", "hello", 204},
		{"POST", "/writes?vm=vm&disk=0&offset=1020", "hello", 400},
		{"POST", "/writes?vm=vm&disk=x&offset=0", "hello", 400},
		{"POST", "/writes?vm=vm&disk=0", "hello", 400},
		{"POST", "/writes?vm=vm&disk=4&offset=0", "hello", 404},
		{"POST", "/snapshots?vm=vm&name=one", "", 204},
		{"POST", "/power?vm=vm&on=true", "", 204},
		{"POST", "/power?vm=vm&on=maybe", "", 400},
		{"POST", "/power?vm=no&on=true", "", 404},
		{"DELETE", "/sessions", "", 204},
		{"GET", "/faults", "", 405},
		{"GET", "/", "", 404},
	} {
		if status, text := ask(one.method, one.at, one.body); status != one.want {
			t.Errorf("%s %s: %d %s, want %d", one.method, one.at, status, text, one.want)
		}
	}
	var rec vcentersim.Record
	if _, text := ask("GET", "/record", ""); json.Unmarshal([]byte(text), &rec) != nil || len(rec.Snapshots) != 1 || rec.Snapshots[0].Name != "one" {
		t.Errorf("record: %+v", rec)
	}
	if status, _ := ask("DELETE", "/snapshots?vm=vm", ""); status != 204 || len(sim.Record().Snapshots) != 0 {
		t.Errorf("snapshots after their removal: %d, %+v", status, sim.Record().Snapshots)
	}
}
