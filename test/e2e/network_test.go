package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clients "github.com/hyperplane-project/hyperplane/clients/go"
	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/test/guest"
	"github.com/hyperplane-project/hyperplane/test/privatelibvirt"
	"github.com/hyperplane-project/hyperplane/test/proc"
)

// startInNetwork starts a daemon in the network of a libvirtd of its own, as on a host: it then serves the subnets itself. settings are further lines of the
// configuration.
func startInNetwork(t *testing.T, settings ...string) *daemon {
	t.Helper()
	lv := privatelibvirt.New(t, privatelibvirt.Options{})
	dir, err := os.MkdirTemp("", "hp-e2e-") //nolint:usetesting // sockets lie below it, whose paths must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	config := filepath.Join(t.TempDir(), "config.yaml")
	write(t, config, "hypervisor: {run_dir: "+filepath.Join(dir, "run")+", accel: tcg}\n"+strings.Join(settings, "\n"))
	d := &daemon{t: t, dir: dir}
	address := filepath.Join(dir, "address")
	d.Program, err = proc.Start(nil, nil, "nsenter", fmt.Sprintf("--net=/proc/%d/ns/net", lv.PID), "--", program(t, "hypervisord"),
		"--state-dir", filepath.Join(dir, "state"), "--socket", filepath.Join(dir, "sock"), "--listen", "127.0.0.1:0", "--address-file", address,
		"--config", config, "--libvirt-socket", lv.Socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Kill)
	if _, err := d.File(t.Context(), address); err != nil {
		t.Fatal(err)
	}
	return d
}

// serial is a VM's serial port.
type serial struct {
	t      *testing.T
	stream hypervisorv1.ConsoleService_ConnectToVmSerialPortClient
	seen   strings.Builder
}

func (d *daemon) serial(ctx context.Context, vm string) *serial {
	d.t.Helper()
	cc, err := clients.Dial(clients.Config{Server: "unix://" + filepath.Join(d.dir, "sock")})
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { _ = cc.Close() })
	stream, err := hypervisorv1.NewConsoleServiceClient(cc).ConnectToVmSerialPort(ctx)
	if err != nil {
		d.t.Fatal(err)
	}
	if err := stream.Send(&hypervisorv1.ConnectToVmSerialPortRequest{Vm: vm}); err != nil {
		d.t.Fatal(err)
	}
	return &serial{t: d.t, stream: stream}
}

// await reads until a text has come, and returns what has come up to its end since the last call.
func (s *serial) await(text string) string {
	s.t.Helper()
	for !strings.Contains(s.seen.String(), text) {
		m, err := s.stream.Recv()
		if err != nil {
			s.t.Fatalf("%v before %q in:\n%s", err, text, s.seen.String())
		}
		s.seen.Write(m.GetData())
	}
	said, rest, _ := strings.Cut(s.seen.String(), text)
	s.seen.Reset()
	s.seen.WriteString(rest)
	return said + text
}

// shell types a command until the guest has said a text. An emulated serial port may lose bytes of a line while the guest is busy.
func (s *serial) shell(command, text string) {
	s.t.Helper()
	done, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		again := time.NewTicker(4 * time.Second)
		defer again.Stop()
		for {
			if err := s.stream.Send(&hypervisorv1.ConnectToVmSerialPortRequest{Data: []byte("\n" + command + "\n")}); err != nil {
				ended <- err
				return
			}
			select {
			case <-again.C:
			case <-done:
				ended <- nil
				return
			}
		}
	}()
	s.await(text)
	close(done)
	if err := <-ended; err != nil {
		s.t.Error(err)
	}
}

// TestGuestIsServedByTheDaemon boots a real guest that gets its address and metadata from the daemon itself: no dnsmasq runs.
func TestGuestIsServedByTheDaemon(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	d := startInNetwork(t)
	d.must("vm", "create", "guest-1", "--memory", "160M", "--cpus", "1", "--image", guest.Cache(t).QCOW2, "--progress", "none")
	v := d.vm("guest-1")

	cc, err := clients.Dial(clients.Config{Server: "unix://" + filepath.Join(d.dir, "sock")})
	if err != nil {
		t.Fatal(err)
	}
	defer cc.Close()
	trace, err := hypervisorv1.NewMonitoringServiceClient(cc).TraceVmMetadata(ctx, &hypervisorv1.TraceVmMetadataRequest{Vm: v.UUID})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := trace.Header(); err != nil {
		t.Fatal(err)
	}

	port := d.serial(ctx, v.UUID)
	said := port.await("GUEST IP") + port.await("\n")
	for _, want := range []string{" " + v.Address.IP + "/24 ", "router=10.88.0.1", "name=guest-1"} {
		if !strings.Contains(said, want) {
			t.Errorf("the guest said %q, without %q", said, want)
		}
	}
	port.shell(`printf 'GET /latest/meta-data/instance-id HTTP/1.0\r\n\r\n' | nc -w 5 169.254.169.254 80`, v.UUID)
	if m, err := trace.Recv(); err != nil || m.GetLine() != "/latest/meta-data/instance-id" {
		t.Errorf("trace: %v, %v", m, err)
	}
	d.must("vm", "destroy", "guest-1")
	m, err := trace.Recv()
	for err == nil && strings.HasPrefix(m.GetLine(), "/") { // the guest was told to ask more than once
		m, err = trace.Recv()
	}
	if err != nil || m.GetLine() != "VM destroyed" {
		t.Errorf("trace: %v, %v", m, err)
	}
	if m, err := trace.Recv(); err != nil || m.GetLine() != "" {
		t.Errorf("trace: %v, %v; want an empty line", m, err)
	}
	if _, err := trace.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("trace: %v at its end", err)
	}
}
