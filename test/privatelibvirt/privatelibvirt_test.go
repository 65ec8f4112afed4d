package privatelibvirt_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/hyperplane-project/hyperplane/internal/procexec"
	"github.com/hyperplane-project/hyperplane/test/privatelibvirt"
)

func virsh(t *testing.T, socket string, args ...string) (string, error) {
	t.Helper()
	res, err := procexec.Runner{}.Run(t.Context(), procexec.Command{
		Program: "virsh", Args: append([]string{"-q", "-c", "qemu+unix:///system?socket=" + socket}, args...),
	})
	return string(res.Stdout), err
}

func TestRestartKeepsDefinitions(t *testing.T) {
	t.Parallel()
	inst := privatelibvirt.New(t, privatelibvirt.Options{})
	if out, err := virsh(t, inst.Socket, "list", "--all"); err != nil || strings.TrimSpace(out) != "" {
		t.Fatalf("an instance begins with no machine, got %q, %v", out, err)
	}
	if _, err := virsh(t, inst.Socket, "define", machineXML(t, uuid.NewString())); err != nil {
		t.Fatal(err)
	}
	if err := inst.StopLibvirtd(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := virsh(t, inst.Socket, "list"); err == nil {
		t.Fatal("libvirtd answers after StopLibvirtd")
	}
	if err := inst.StartLibvirtd(t.Context()); err != nil {
		t.Fatal(err)
	}
	if out, err := virsh(t, inst.Socket, "list", "--all", "--name"); err != nil || strings.TrimSpace(out) != "probe" {
		t.Fatalf("after the restart: %q, %v", out, err)
	}
}

func TestInNetwork(t *testing.T) {
	t.Parallel()
	inst := privatelibvirt.New(t, privatelibvirt.Options{})
	links := func() (names []string) {
		ifaces, err := net.Interfaces()
		if err != nil {
			t.Error(err)
		}
		for _, iface := range ifaces {
			names = append(names, iface.Name)
		}
		return names
	}
	var inside []string
	if err := inst.InNetwork(func() error { inside = links(); return nil }); err != nil {
		t.Fatal(err)
	}
	if len(inside) != 1 || inside[0] != "lo" {
		t.Fatalf("inside: %v", inside)
	}
	if err := inst.InNetwork(func() error { return io.ErrUnexpectedEOF }); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatalf("got %v", err)
	}
}

func TestStopEndsGuests(t *testing.T) {
	t.Parallel()
	inst, err := privatelibvirt.Start(t.Context(), privatelibvirt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	machineUUID := uuid.NewString()
	if _, err := virsh(t, inst.Socket, "create", machineXML(t, machineUUID)); err != nil {
		t.Error(err)
	}
	guest, err := privatelibvirt.GuestPID(machineUUID)
	if err != nil {
		t.Error(err)
	}
	if err := inst.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(guest, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("the guest's process %d lives: %v", guest, err)
	}
	if _, err := os.Stat(inst.Dir); !os.IsNotExist(err) {
		t.Errorf("the directory is left: %v", err)
	}
	if err := inst.Stop(); err != nil {
		t.Errorf("second stop: %v", err)
	}
}

func TestStartObeysItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if inst, err := privatelibvirt.Start(ctx, privatelibvirt.Options{}); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v, %v", inst, err)
	}
}

// TestNothingOutlivesItsStarter runs this test binary again as a process that starts an instance, and kills that process.
func TestNothingOutlivesItsStarter(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestStarter$")
	cmd.Env = append(os.Environ(), "PRIVATELIBVIRT_STARTER=1", "TMPDIR="+t.TempDir())
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	pid, dir, ok := strings.Cut(strings.TrimSpace(line), " ")
	supervisor, err := strconv.Atoi(pid)
	if !ok || err != nil {
		t.Fatalf("the starter said %q", line)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	await(t, func() bool {
		_, err := os.Stat(dir)
		return os.IsNotExist(err) && (errors.Is(syscall.Kill(supervisor, 0), syscall.ESRCH) || isZombie(supervisor))
	})
}

// TestStarter is the other process of TestNothingOutlivesItsStarter; by itself it does nothing.
func TestStarter(t *testing.T) {
	t.Parallel()
	if os.Getenv("PRIVATELIBVIRT_STARTER") == "" {
		return
	}
	inst := privatelibvirt.New(t, privatelibvirt.Options{})
	if _, err := virsh(t, inst.Socket, "create", machineXML(t, uuid.NewString())); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stdout.WriteString(strconv.Itoa(inst.PID) + " " + inst.Dir + "\n"); err != nil {
		t.Fatal(err)
	}
	<-time.After(time.Minute) // until killed
}

// isZombie says whether a process has ended but was not yet waited for by the host's first process.
func isZombie(pid int) bool {
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	return err != nil || strings.Contains(string(stat), ") Z ")
}

func machineXML(t *testing.T, machineUUID string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "machine.xml")
	text := `<domain type='qemu'><name>probe</name><uuid>` + machineUUID + `</uuid><memory unit='MiB'>32</memory>` +
		`<os><type arch='x86_64' machine='pc'>hvm</type></os></domain>`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func await(t *testing.T, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(20 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("timed out")
		}
	}
}
