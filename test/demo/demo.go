package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hyperplane-project/hyperplane/test/guest"
	"github.com/hyperplane-project/hyperplane/test/privatelibvirt"
	"github.com/hyperplane-project/hyperplane/test/proc"
)

const (
	vmName     = "web-1"
	vmMAC      = "00:50:56:aa:bb:01"
	vmPassword = "demo-password"
)

type step struct {
	what string
	took time.Duration
}

// demo is one run.
type demo struct {
	dir     string
	began   time.Time
	times   []step
	marker  string
	disk    string
	libvirt *privatelibvirt.Instance
	vcenter *proc.Program
	daemon  *proc.Program
	url     string // of the vCenter
	base    string // of the daemon's REST
	job     string
}

func (d *demo) path(name string) string { return filepath.Join(d.dir, name) }

func (d *demo) buildGuest(ctx context.Context) error {
	secret := make([]byte, 6)
	if _, err := rand.Read(secret); err != nil {
		return err
	}
	d.marker = "hyperplane-demo-" + hex.EncodeToString(secret)
	files, err := guest.Build(ctx, d.path("guest"), d.marker)
	d.disk = files.Raw
	return err
}

func (d *demo) startLibvirt(ctx context.Context) (err error) {
	d.libvirt, err = privatelibvirt.Start(ctx, privatelibvirt.Options{})
	return err
}

func (d *demo) startVCenter(ctx context.Context) (err error) {
	if err := os.WriteFile(d.path("password"), []byte(vmPassword+"\n"), 0o600); err != nil {
		return err
	}
	d.vcenter, err = proc.Start(nil, nil, "bin/vcentersim", "--username", "demo", "--password-file", d.path("password"),
		"--vm", "name="+vmName+",cpus=1,memory=256,power=off,disk="+d.disk+",mac="+vmMAC,
		"--cert-out", d.path("vcenter.pem"), "--url-file", d.path("vcenter.url"))
	if err != nil {
		return err
	}
	d.url, err = d.vcenter.File(ctx, d.path("vcenter.url"))
	return err
}

func (d *demo) startDaemon(ctx context.Context) (err error) {
	config := "hypervisor: {run_dir: " + d.path("vms") + "}\n"
	if err := os.WriteFile(d.path("config.yaml"), []byte(config), 0o600); err != nil {
		return err
	}
	env := []string{"GOVC_URL=" + d.url, "GOVC_USERNAME=demo", "GOVC_PASSWORD=" + vmPassword, "GOVC_TLS_CA_CERTS=" + d.path("vcenter.pem")}
	d.daemon, err = proc.Start(nil, env, "bin/hypervisord", "--config", d.path("config.yaml"), "--state-dir", d.path("state"),
		"--socket", d.path("sock"), "--listen", "127.0.0.1:0", "--libvirt-socket", d.libvirt.Socket, "--accel", "tcg",
		"--address-file", d.path("address"))
	if err != nil {
		return err
	}
	address, err := d.daemon.File(ctx, d.path("address"))
	d.base = "https://" + address
	return err
}

// export submits the job as a user of REST does and follows its progress.
func (d *demo) export(ctx context.Context) error {
	definition := `{"name":"demo","vm_path":"/DC0/vm/` + vmName + `","format":"qcow2","libvirt":{"name":"` + vmName + `","start":true}}`
	var submitted struct {
		JobIDs []string `json:"job_ids"`
	}
	if err := d.rest(ctx, http.MethodPost, "/jobs/submit", definition, &submitted); err != nil {
		return err
	}
	d.job = submitted.JobIDs[0]
	fmt.Printf("   POST /jobs/submit %s\n   job %s\n", definition, d.job)
	for last := ""; ; {
		var p struct {
			Status   string `json:"status"`
			Error    string `json:"error"`
			Progress struct {
				Phase   string  `json:"phase"`
				Percent float64 `json:"percent_complete"`
				Rate    uint64  `json:"rate_bytes_per_second"`
			} `json:"progress"`
		}
		if err := d.rest(ctx, http.MethodGet, "/jobs/progress/"+d.job, "", &p); err != nil {
			return err
		}
		if line := fmt.Sprintf("   %-10s %-20s %3.0f%%", p.Status, p.Progress.Phase, p.Progress.Percent); line != last {
			fmt.Println(line)
			last = line
		}
		switch p.Status {
		case "completed":
			return nil
		case "failed", "cancelled":
			return errors.New("job " + p.Status + ": " + p.Error)
		}
		select {
		case <-time.After(250 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// rest calls the daemon over TLS with the admin token it made at its first start.
func (d *demo) rest(ctx context.Context, method, path, body string, answer any) error {
	token, err := os.ReadFile(d.path("state/pki/admin.token"))
	if err != nil {
		return err
	}
	ca, err := os.ReadFile(d.path("state/pki/ca.pem"))
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}}
	defer client.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, method, d.base+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s: %s: %s", method, path, res.Status, bytes.TrimSpace(raw))
	}
	return json.Unmarshal(raw, answer)
}

func (d *demo) hyperctl(ctx context.Context, args ...string) (string, error) {
	fmt.Printf("   $ hyperctl %s\n", strings.Join(args, " "))
	return proc.Run(ctx, []string{"HYPERPLANE_SERVER=unix://" + d.path("sock")}, "bin/hyperctl", args...)
}

func (d *demo) readConsole(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	out, err := d.hyperctl(ctx, "console", vmName, "--until", d.marker)
	for line := range strings.Lines(out) {
		if line = strings.TrimSpace(line); line != "" {
			fmt.Printf("   | %s\n", line)
		}
	}
	if err == nil && !strings.Contains(out, d.marker) {
		err = errors.New("the marker did not come")
	}
	return err
}

func (d *demo) list(ctx context.Context) error {
	out, err := d.hyperctl(ctx, "vm", "list")
	fmt.Print(out)
	if err == nil && !strings.Contains(out, "running") {
		err = errors.New("the VM is not listed as running")
	}
	return err
}

func (d *demo) destroy(ctx context.Context) error {
	_, err := d.hyperctl(ctx, "vm", "destroy", vmName)
	return err
}

// tearDown ends everything, in reverse order, whatever happened.
func (d *demo) tearDown() error {
	var errs []error
	for _, p := range []*proc.Program{d.daemon, d.vcenter} {
		if p != nil {
			errs = append(errs, p.Stop())
		}
	}
	if d.libvirt != nil {
		errs = append(errs, d.libvirt.Stop())
	}
	errs = append(errs, os.RemoveAll(d.dir))
	return errors.Join(errs...)
}

func (d *demo) sayOK() {
	named := map[int]string{0: "guest", 4: "export+start", 5: "boot"}
	var parts []string
	for i, s := range d.times {
		if n, ok := named[i]; ok {
			parts = append(parts, fmt.Sprintf("%s %.1fs", n, s.took.Seconds()))
		}
	}
	fmt.Printf("DEMO OK %s total %.1fs\n", strings.Join(parts, " "), time.Since(d.began).Seconds())
}
