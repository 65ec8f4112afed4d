package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestOperatorsDay does with hyperctl what an operator does with VMs, on the fake hypervisor: what the commands say, and that they do it.
func TestOperatorsDay(t *testing.T) {
	t.Parallel()
	more := filepath.Join(t.TempDir(), "more")
	config := filepath.Join(t.TempDir(), "config.yaml")
	write(t, config, "hypervisor: {driver: fake}\nmore_volume_dirs: ["+more+"]\n")
	d := startDaemon(t, nil, "--config", config)
	disk, userData := filepath.Join(t.TempDir(), "disk.raw"), filepath.Join(t.TempDir(), "cloud-config.yaml")
	sum := makeDisk(t, disk, 4<<20, 3)
	write(t, userData, "#cloud-config\nhostname: web-1\n")

	if out := d.must("image", "add", "team/base:1", disk, "--sha256", sum, "--filter", "/etc/.*", "--description", "the base"); !strings.Contains(out, sum) {
		t.Errorf("image add: %s", out)
	}
	d.must("vm", "create", "web-1", "--memory", "64M", "--image-name", "team/base:1", "--user-data", userData, "--disk", "8M", "--console", "vnc")
	d.says([]string{"team/base:1", "4 MiB", "1 VMs"}, "image", "list")
	d.says([]string{sum}, "image", "verify", "team/base:1")
	d.refuses("1 VMs name it", "image", "remove", "team/base:1")
	d.says([]string{"#cloud-config"}, "vm", "user-data", "get", "web-1")
	d.must("vm", "user-data", "set", "web-1", userData)
	d.must("vm", "user-data", "restore", "web-1")

	d.must("vm", "volume", "add", "web-1", "16M")
	d.must("vm", "volume", "resize", "web-1", "2", "32M")
	d.says([]string{"0", "volumes", "1", more}, "host", "storage")
	d.must("vm", "volume", "move", "web-1", "2", "1")
	d.says([]string{"Volume 2", "32 MiB"}, "vm", "get", "web-1")
	d.must("vm", "volume", "remove", "web-1", "2")
	d.refuses("", "vm", "volume", "remove", "web-1", "9")

	d.must("vm", "snapshot", "create", "web-1", "before", "--live")
	d.says([]string{"before", "0", "1"}, "vm", "snapshot", "list", "web-1")
	d.must("vm", "snapshot", "restore", "web-1", "before", "--force", "--keep")
	d.must("vm", "snapshot", "remove", "web-1", "before")

	d.says([]string{"Processors", "Memory"}, "host", "capacity")
	d.must("host", "disable")
	d.refuses("disabled", "vm", "create", "late", "--memory", "64M", "--size", "1M")
	d.must("host", "enable")
	d.rfb("web-1")
	d.monitors("web-1")
	d.must("vm", "destroy", "web-1")
	d.must("image", "remove", "team/base:1")
}

// says checks that a command's output has the texts.
func (d *daemon) says(texts []string, args ...string) {
	d.t.Helper()
	out := d.must(args...)
	for _, text := range texts {
		if !strings.Contains(out, text) {
			d.t.Errorf("hyperctl %q does not say %q:\n%s", args, text, out)
		}
	}
}

// refuses checks that a command fails with the text.
func (d *daemon) refuses(text string, args ...string) {
	d.t.Helper()
	if out, err := d.ctl(args...); err == nil || !strings.Contains(err.Error(), text) {
		d.t.Errorf("hyperctl %q: %v, want an error with %q\n%s", args, err, text, out)
	}
}

// hyperctl is a command of hyperctl with its pipes.
func (d *daemon) hyperctl(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program(d.t, "hyperctl"), args...)
	cmd.Env = append(cmd.Environ(), "HYPERPLANE_SERVER=unix://"+filepath.Join(d.dir, "sock"))
	return cmd
}

// rfb connects to a VM's display as a VNC viewer does: RFC 6143, section 7.1.1.
func (d *daemon) rfb(vm string) {
	d.t.Helper()
	cmd := d.hyperctl(d.t.Context(), "vnc", vm, "--once")
	out, err := cmd.StdoutPipe()
	if err != nil {
		d.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	address, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		d.t.Fatal(err)
	}
	conn, err := new(net.Dialer).DialContext(d.t.Context(), "tcp", strings.TrimSpace(address))
	if err != nil {
		d.t.Fatal(err)
	}
	version := make([]byte, 12)
	if _, err := io.ReadFull(conn, version); err != nil || !strings.HasPrefix(string(version), "RFB 003.") {
		d.t.Errorf("the display says %q: %v", version, err)
	}
	if err := conn.Close(); err != nil {
		d.t.Error(err)
	}
	if err := cmd.Wait(); err != nil {
		d.t.Errorf("vnc --once: %v", err)
	}
}

// monitors asks a VM's monitor for its state.
func (d *daemon) monitors(vm string) {
	d.t.Helper()
	ctx, cancel := context.WithCancel(d.t.Context())
	defer cancel()
	cmd := d.hyperctl(ctx, "monitor", vm)
	in, err := cmd.StdinPipe()
	if err != nil {
		d.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		d.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	if _, err := io.WriteString(in, `{"execute":"query-status","id":7}`+"\n"); err != nil {
		d.t.Fatal(err)
	}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		var answer struct {
			Return struct{ Status string }
			ID     int
		}
		if json.Unmarshal(lines.Bytes(), &answer) == nil && answer.ID == 7 && answer.Return.Status != "" {
			cancel()
			_ = cmd.Wait() // it was interrupted
			return
		}
	}
	d.t.Errorf("the monitor did not answer: %v", cmd.Wait())
}
