package e2e

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/hyperplane-project/hyperplane/test/proc"
)

func itoa(n int) string { return strconv.Itoa(n) }

func TestSecondDaemonIsRefused(t *testing.T) {
	t.Parallel()
	d := startDaemon(t, nil, "--hypervisor", "fake")
	_, err := proc.Run(t.Context(), nil, program(t, "hypervisord"), "--hypervisor", "fake", "--state-dir", filepath.Join(d.dir, "state"),
		"--socket", "none", "--listen", "127.0.0.1:0")
	if err == nil || !strings.Contains(err.Error(), "in use by another process") || !strings.Contains(err.Error(), "exit status 1") {
		t.Errorf("second daemon: %v", err)
	}
}

func TestBadConfigurationIsNamed(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "config.yaml")
	write(t, path, "log_level: info\nlisten_on: [x]\n")
	_, err := proc.Run(t.Context(), nil, program(t, "hypervisord"), "--config", path)
	if err == nil || !strings.Contains(err.Error(), "exit status 2") || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "line 2: field listen_on") {
		t.Errorf("bad configuration: %v", err)
	}
}

func TestFirstStartMakesClosedCredentials(t *testing.T) {
	t.Parallel()
	d := startDaemon(t, nil, "--hypervisor", "fake")
	for _, name := range []string{"ca.key", "server.key", "admin.key", "admin.token", "secrets.key"} {
		st, err := os.Stat(filepath.Join(d.dir, "state", "pki", name))
		if err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v, want mode 0600", name, st, err)
		}
	}
	if st, err := os.Stat(filepath.Join(d.dir, "sock")); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v %v, want mode 0600", st, err)
	}
	address, err := os.ReadFile(filepath.Join(d.dir, "address"))
	if err != nil {
		t.Fatal(err)
	}
	pki := filepath.Join(d.dir, "state", "pki")
	remote := []string{"--server", strings.TrimSpace(string(address)), "--ca", filepath.Join(pki, "ca.pem")}
	for name, c := range map[string]struct {
		args []string
		ok   bool
	}{
		"certificate": {append(remote, "--cert", filepath.Join(pki, "admin.pem"), "--key", filepath.Join(pki, "admin.key")), true},
		"token":       {append(remote, "--token-file", filepath.Join(pki, "admin.token")), true},
		"nothing":     {remote, false},
	} {
		_, err := proc.Run(t.Context(), nil, program(t, "hyperctl"), append([]string{"vm", "list"}, c.args...)...)
		if c.ok != (err == nil) || (!c.ok && !strings.Contains(err.Error(), "exit status 4")) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTerminationDrains(t *testing.T) {
	t.Parallel()
	d := startDaemon(t, nil, "--hypervisor", "fake")
	d.must("vm", "create", "web-1", "--memory", "64M", "--size", "1M")
	if err := d.Stop(); err != nil {
		t.Fatal(err)
	}
	d.start()
	if out := d.must("vm", "list"); !strings.Contains(out, "web-1") {
		t.Errorf("after a restart: %s", out)
	}
}

func TestCompletionAndHelp(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"hypervisord", "hyperctl", "hyperexport", "vcentersim"} {
		for _, args := range [][]string{{"--help"}, {"--version"}, {"completion", "bash"}} {
			if name == "vcentersim" || (name == "hypervisord" && args[0] == "completion") {
				continue
			}
			if out, err := proc.Run(t.Context(), nil, program(t, name), args...); err != nil || len(out) < 10 {
				t.Errorf("%s %v: %v %s", name, args, err, out)
			}
		}
	}
}
