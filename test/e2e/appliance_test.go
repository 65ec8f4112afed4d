package e2e

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/test/guest"
)

// port is the serial port of a domain that is no VM, at the host's end.
type port struct {
	t    *testing.T
	conn net.Conn
	seen strings.Builder
}

func openPort(t *testing.T, path string) *port {
	t.Helper()
	conn := eventually(t, func() (net.Conn, bool) {
		c, err := new(net.Dialer).DialContext(t.Context(), "unix", path)
		return c, err == nil
	})
	t.Cleanup(func() { _ = conn.Close() })
	return &port{t: t, conn: conn}
}

// await reads until a text has come, and returns what has come before it.
func (p *port) await(text string, patience time.Duration) (string, bool) {
	p.t.Helper()
	if err := p.conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		p.t.Fatal(err)
	}
	buf := make([]byte, 4096)
	for !strings.Contains(p.seen.String(), text) {
		n, err := p.conn.Read(buf)
		p.seen.Write(buf[:n])
		if err != nil {
			return p.seen.String(), false
		}
	}
	said, rest, _ := strings.Cut(p.seen.String(), text)
	p.seen.Reset()
	p.seen.WriteString(rest)
	return said, true
}

func (p *port) ready() {
	p.t.Helper()
	if said, ok := p.await("GUEST READY", time.Minute); !ok {
		p.t.Fatalf("the guest is not ready:\n%s", said)
	}
}

// shell types a command until the guest has said a text; see serial.shell. The guest sends a line back that begins with echo.
func (p *port) shell(command, text string) {
	p.t.Helper()
	for range 10 {
		if _, err := p.conn.Write([]byte("\n: ; " + command + "\n")); err != nil {
			p.t.Fatal(err)
		}
		if _, ok := p.await(text, 4*time.Second); ok {
			return
		}
	}
	p.t.Fatalf("%q: no %q in:\n%s", command, text, p.seen.String())
}

const foreignDomain = `<domain type='qemu'><name>legacy</name><memory unit='MiB'>112</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='q35'>hvm</type></os><features><acpi/></features><devices>
<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='%s'/><target dev='vda' bus='virtio'/></disk>
<serial type='unix'><source mode='bind' path='%s'/><target port='0'/></serial></devices></domain>`

// TestBackupOfARunningGuest backs up a guest that writes all the time, whose domain somebody else made, destroys its disk, and puts everything back: the guest
// has what it had at the last backup. Then a clone boots beside it.
func TestBackupOfARunningGuest(t *testing.T) {
	t.Parallel()
	image := guest.Cache(t).QCOW2
	a := newLibvirtAPI(t)
	run, err := os.MkdirTemp("", "hp-own-") //nolint:usetesting // sockets lie below it, whose paths must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(run) })
	raw, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	disk, socket, definition := filepath.Join(run, "legacy.qcow2"), filepath.Join(run, "serial"), filepath.Join(run, "legacy.xml")
	if err := os.WriteFile(disk, raw, 0o600); err != nil { //nolint:gosec // the path is the test's own
		t.Fatal(err)
	}
	write(t, definition, fmt.Sprintf(foreignDomain, disk, socket))
	a.virsh("define", definition)
	id := a.get("/libvirt/domain", "name", "legacy")["uuid"]

	a.post(http.StatusOK, "/libvirt/domain/start", object{"name": "legacy"})
	p := openPort(t, socket)
	p.ready()
	p.shell("echo first > /one; sync; (while :; do echo x >> /loop; sync; done) & echo STARTED$((1+1))", "STARTED2")
	a.post(http.StatusOK, "/libvirt/backup/create", object{"vm_name": "legacy", "backup_name": "full", "checkpoint": true})
	p.shell("echo second > /two; sync; echo WRITTEN$((1+1))", "WRITTEN2")
	answer := a.post(http.StatusOK, "/libvirt/backup/create", object{"vm_name": "legacy", "backup_name": "more", "parent": "full"})
	if size := parse[object](t, answer)["total_size"].(float64); size > 8<<20 {
		t.Errorf("the incremental backup has %.0f bytes", size)
	}
	p.shell("echo third > /three; sync; echo WRITTEN$((1+2))", "WRITTEN3")
	a.post(http.StatusBadRequest, "/libvirt/backup/restore", object{"backup_name": "more"}) // it runs

	a.virsh("destroy", "legacy")
	if err := os.WriteFile(disk, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	a.post(http.StatusOK, "/libvirt/backup/verify", object{"backup_name": "more"})
	a.post(http.StatusOK, "/libvirt/backup/restore", object{"backup_name": "more", "start": true})
	if now := a.get("/libvirt/domain", "name", "legacy")["uuid"]; now != id {
		t.Errorf("the UUID was %v and is %v", id, now)
	}
	p = openPort(t, socket)
	p.ready()
	p.shell("echo DATA=$(cat /one)$(cat /two)$(ls /three 2>/dev/null)$(test -s /loop && echo loop)=", "DATA=firstsecondloop=")

	// A clone of the running guest, with a serial port of its own.
	made := parse[object](t, a.post(http.StatusOK, "/libvirt/clone", object{"source": "legacy", "target": "twin", "start": true}))["domain"].(object)
	twin := openPort(t, socket+"-"+made["uuid"].(string)[:8])
	twin.ready()
	twin.shell("echo CLONE=$(cat /one)$(cat /two)=", "CLONE=firstsecond=")
	p.shell("echo STILL$((1+1))", "STILL2")
	a.post(http.StatusOK, "/libvirt/batch/delete", object{"domains": []string{"twin", "legacy"}, "force": true, "remove_storage": true})
	for _, e := range entries(t, run) {
		if strings.HasSuffix(e, ".qcow2") || strings.HasPrefix(e, ".") {
			t.Errorf("%s is left", e)
		}
	}
}

// TestCloneOfARunningVM clones a VM of Hyperplane while it runs: the clone is a VM too, with an address of its own, and boots.
func TestCloneOfARunningVM(t *testing.T) {
	t.Parallel()
	image := guest.Cache(t).QCOW2
	d, lv := startOnLibvirt(t, nil)
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(d.dir, "sock"))
	}}
	t.Cleanup(tr.CloseIdleConnections)
	a := &libvirtAPI{t: t, client: &http.Client{Transport: tr}, lv: lv}
	d.must("vm", "create", "guest-1", "--memory", "112M", "--cpus", "1", "--image", image, "--progress", "none")
	d.must("console", "guest-1", "--until", "GUEST READY")
	made := parse[object](t, a.post(http.StatusOK, "/libvirt/clone", object{"source": "guest-1", "target": "guest-2", "start": true}))["domain"].(object)
	if made["managed"] != true {
		t.Errorf("the clone: %v", made)
	}
	v := d.vm("guest-2")
	if v.State != "STATE_RUNNING" || v.UUID != made["uuid"] || v.Address.IP == d.vm("guest-1").Address.IP {
		t.Errorf("the clone: %+v", v)
	}
	d.must("console", "guest-2", "--until", v.Address.IP)
	d.must("vm", "destroy", "guest-2")
	d.must("vm", "destroy", "guest-1")
}

// TestKillInTheMiddleOfABackup kills the daemon while it backs a domain up: started again, it has removed what was half-made.
func TestKillInTheMiddleOfABackup(t *testing.T) {
	t.Parallel()
	d, lv := startOnLibvirt(t, nil)
	a := &libvirtAPI{t: t, lv: lv}
	dir := t.TempDir()
	disk, definition := filepath.Join(dir, "big.raw"), filepath.Join(dir, "big.xml")
	makeDisk(t, disk, 512<<20, 1)
	write(t, definition, `<domain type='qemu'><name>big</name><memory unit='MiB'>64</memory><vcpu>1</vcpu><os><type arch='x86_64' machine='q35'>hvm</type></os><devices>
<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='`+disk+`'/><target dev='vda' bus='virtio'/></disk></devices></domain>`)
	a.virsh("define", definition)
	backups := filepath.Join(d.dir, "state", "backups")
	stream, err := hypervisorv1.NewApplianceServiceClient(d.dial()).CreateBackup(t.Context(), &hypervisorv1.CreateBackupRequest{Domain: "big", Name: "half", Compress: true})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, func() ([]string, bool) { left := entries(t, backups); return left, len(left) == 1 })
	d.Kill()
	for err == nil { // messages of progress
		_, err = stream.Recv()
	}
	if left := entries(t, backups); len(left) != 1 || !strings.HasPrefix(left[0], ".making-") {
		t.Fatalf("killed too late: %v", left)
	}
	d.start()
	eventually(t, func() ([]string, bool) { left := entries(t, backups); return left, len(left) == 0 })
}
