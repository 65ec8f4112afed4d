package e2e

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clients "github.com/hyperplane-project/hyperplane/clients/go"
	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/srpcshim/srpctest"
	"github.com/hyperplane-project/hyperplane/srpcshim/srpctest/fakepeer"
	"github.com/hyperplane-project/hyperplane/test/guest"
	"github.com/hyperplane-project/hyperplane/test/privatelibvirt"
)

// TestGuestFromDominator moves a guest from a fake peer that speaks only SRPC to a real host, where it boots.
func TestGuestFromDominator(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	disk, err := os.ReadFile(guest.Cache(t).Raw)
	if err != nil {
		t.Fatal(err)
	}
	const ip, userData = "10.88.0.77", "#!/bin/sh\necho hello\n"
	a := fakepeer.NewAuthority(t)
	token := []byte("the token of this VM, 32 bytes..")
	peer := fakepeer.Start(t, fakepeer.Options{
		Certificate: a.Peer(), Trust: a.Pool, Token: token, Volumes: [][]byte{disk, make([]byte, 8<<20)}, UserData: []byte(userData),
		VM: srpctest.VmInfo{
			Address: srpctest.Address{IpAddress: net.ParseIP(ip), MacAddress: "52:54:0a:58:00:4d"}, Hostname: "guest-1", MemoryInMiB: 160, MilliCPUs: 1000,
			OwnerUsers: []string{"alice"}, State: fakepeer.Running, SubnetId: "default", Tags: map[string]string{"Name": "guest-1"},
		},
	})
	d := startBesidePeer(t, a)
	cc, err := clients.Dial(clients.Config{Server: "unix://" + filepath.Join(d.dir, "sock")})
	if err != nil {
		t.Fatal(err)
	}
	defer cc.Close()

	stream, err := hypervisorv1.NewVmTransferServiceClient(cc).MigrateVm(ctx)
	if err != nil {
		t.Fatal(err)
	}
	start := &hypervisorv1.MigrateVmStart{Vm: ip, AccessToken: token, SourceHypervisor: peer.Addr}
	if err := stream.Send(&hypervisorv1.MigrateVmRequest{Part: &hypervisorv1.MigrateVmRequest_Start{Start: start}}); err != nil {
		t.Fatal(err)
	}
	for began := time.Now(); ; {
		m, err := stream.Recv()
		if err != nil {
			t.Fatal(err, peer.Methods(), peer.Problems())
		}
		if m.GetFinal() {
			break
		}
		t.Logf("%v: %s", time.Since(began).Round(time.Millisecond), m.GetProgressMessage())
		if m.GetRequestCommit() {
			// Who decides sees that it boots.
			if out := d.must("console", "guest-1", "--until", "GUEST READY"); !strings.Contains(out, "marker="+guest.Marker) {
				t.Errorf("the guest says %s", out)
			}
			if err := stream.Send(&hypervisorv1.MigrateVmRequest{Part: &hypervisorv1.MigrateVmRequest_Commit{Commit: true}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if v := d.vm("guest-1"); v.State != "STATE_RUNNING" || v.Address.IP != ip {
		t.Errorf("the VM: %+v", v)
	}
	if _, _, gone := peer.State(); !gone || len(peer.Problems()) > 0 {
		t.Errorf("at the peer: gone %v, %q, %q", gone, peer.Methods(), peer.Problems())
	}
	if out := d.Output(); !strings.Contains(out, "protocol=srpc") {
		t.Errorf("the log does not say how the peer was called:\n%s", out)
	}
	d.must("vm", "destroy", "guest-1")
}

// startBesidePeer starts a daemon on a libvirtd of its own that can show itself to the hosts of a site.
func startBesidePeer(t *testing.T, a *fakepeer.Authority) *daemon {
	t.Helper()
	lv := privatelibvirt.New(t, privatelibvirt.Options{})
	run, err := os.MkdirTemp("", "hp-vms-") //nolint:usetesting // sockets lie below it, whose paths must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(run) })
	cert, key, ca := a.Files(a.Client("host", "Hypervisor.PrepareVmForMigration"))
	config := filepath.Join(t.TempDir(), "config.yaml")
	write(t, config, fmt.Sprintf("hypervisor: {run_dir: %s, accel: tcg}\npeers: {cert_file: %s, key_file: %s, ca_file: %s}\n", run, cert, key, ca))
	return startDaemon(t, nil, "--config", config, "--libvirt-socket", lv.Socket)
}
