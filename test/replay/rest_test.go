package replay_test

import (
	"context"
	"net"
	"net/netip"
	"os"
	"path/filepath"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/server/config"
	"github.com/hyperplane-project/hyperplane/server/hypervisor/fake"
	"github.com/hyperplane-project/hyperplane/srpcshim/srpctest"
)

// localSession has machines that were on the host before.
func localSession() session {
	return session{steps: []step{
		do(func(ctx context.Context, w *world) {
			// Of several subnets, ours wants one to be named; the stock server looks for one that the address fits.
			w.subnet(ctx, &hypervisorv1.UpdateSubnetsRequest{Add: []*hypervisorv1.Subnet{{Id: "net1", IpGateway: "10.99.0.1", IpMask: "255.255.0.0"}}})
			w.pool("10.99.1.9", "10.99.1.12")
			w.texts = append(w.texts, [2]string{"/var/lib/hv-peer/vol0", w.Config.VolumeDir})
			for _, folder := range []string{"8109", "8065", "8128", "8160", "7590"} {
				dir := filepath.Join(w.Config.VolumeDir, "import", folder)
				if err := os.MkdirAll(dir, 0o700); err != nil {
					w.t.Fatal(err)
				}
				w.write(filepath.Join(dir, "root"), w.suite.boot)
			}
		}),
		play("import-bad-cookie", "import-local-in-pool", "import-local-no-architecture"),
		remake("10.99.4.1"), gone("10.99.4.1"),
		play("import-local-abandon"),
		gone("10.99.4.1"),
		play("import-local-defer", "vm-info-uncommitted"),
		remake("10.99.4.1"), gone("10.99.4.1"),
		play("import-local-commit", "vm-info-imported", "vm-get-create-request-imported"),
	}}
}

// powerSession is powered off.
func powerSession() session {
	return session{steps: []step{
		do(surroundings),
		do(func(ctx context.Context, w *world) {
			w.create(ctx, "10.99.1.3", "mini", nil)
			w.create(ctx, "10.99.1.4", "data1", nil)
			w.create(ctx, "10.99.1.9", "on", nil)
			w.disable(ctx, true)
		}),
		play("vm-start-disabled", "log-list-never-started", "scan-root-not-scannable", "probe-no-such-vm"),
		do(func(ctx context.Context, w *world) {
			w.disable(ctx, false)
			if _, err := w.vms().StartVm(ctx, &hypervisorv1.StartVmRequest{Vm: "10.99.1.9"}); err != nil {
				w.t.Fatal(err)
			}
		}),
		play("vm-create-partitioned", "power-off-vm-running", "power-off-stop-vms", "power-off"),
	}}
}

// slowSession has a guest that does not listen.
func slowSession() session {
	return session{steps: []step{
		do(surroundings),
		play("vm-restore", "vm-stop-slow"),
	}}
}

// portsSession has a subnet of this host's own addresses, so that ports can be probed.
func portsSession() session {
	const vm = "127.77.1.21"
	return session{
		config: func(c *config.Config) {
			c.Subnets = []config.Subnet{{
				ID: "net1", Bridge: "lo", Existing: true, DHCP: "none", Gateway: netip.MustParsePrefix("127.77.0.1/16"), DisableMetadata: true,
				First: netip.MustParseAddr("127.77.1.20"), Last: netip.MustParseAddr("127.77.1.22"),
			}}
		},
		steps: []step{
			do(func(_ context.Context, w *world) {
				w.texts = append(w.texts, [2]string{"10.99.", "127.77."}, [2]string{"br0", "lo"})
				w.values["0a630115"], w.values["00000000000000000000ffff0a630115"] = "7f4d0115", "7f4d0115"
				ln, err := net.Listen("tcp", vm+":8022") //nolint:noctx // it ends with the test
				if err != nil {
					w.t.Fatal(err)
				}
				w.suite.t.Cleanup(func() { _ = ln.Close() })
			}),
			play("vm-create-trace-probe"),
			do(func(ctx context.Context, w *world) {
				if _, err := w.vms().StopVm(ctx, &hypervisorv1.StopVmRequest{Vm: vm}); err != nil {
					w.t.Fatal(err)
				}
			}),
			play("vm-start-probe", "probe-open", "probe-closed", "netboot-machine-with-subnet", "watch-dhcp", "watch-dhcp-endless"),
		},
	}
}

func restExtras() map[string]extras {
	watch := map[string]func(context.Context, *player){"WatchDhcpResponse#1": sendPackets}
	return map[string]extras{
		"vm-create-trace-probe": {skip: func(s srpctest.Step) bool { return s.Kind == "text" }},
		"watch-dhcp":            {during: watch},
		"watch-dhcp-endless":    {during: watch},
		"vm-stop-slow": {during: map[string]func(context.Context, *player){"StopVmRequest#1": func(ctx context.Context, p *player) {
			if err := p.Host.SetACPI(p.info(ctx, "10.99.1.4").GetUuid(), fake.ACPIIgnore); err != nil {
				p.t.Fatal(err)
			}
		}}},
	}
}

// sendPackets sends what a DHCP client sends over the loopback interface: a BOOTREQUEST is enough.
func sendPackets(ctx context.Context, p *player) {
	conn, err := new(net.Dialer).DialContext(ctx, "udp4", "127.0.0.1:67")
	if err != nil {
		p.t.Fatal(err)
	}
	go func() { // until the watch has begun, and been answered
		defer conn.Close()
		for ctx.Err() == nil {
			_, _ = conn.Write(discover()) // nobody listens there, which some systems report
			p.pause(ctx)
		}
	}()
}

// excused says what is not played, and which test does instead what can be done.
func excused() map[string]string {
	const guest = "the guest's DHCP client decides: the simulated host has no guests on a wire; "
	return map[string]string{
		"vm-create-dhcp-timeout": guest + dhcpTests, "vm-create-dhcp-wait": guest + dhcpTests, "vm-reboot-dhcp-timeout": guest + dhcpTests,
		"vm-reboot-dhcp-wait": guest + dhcpTests, "vm-start-dhcp-wait": guest + dhcpTests,
		"errors-busy":    "ours lets calls wait until the VM has been made, where the stock server refuses them",
		"trace-metadata": "the guest asks for its metadata; " + dhcpTests,
		"scan-root":      "the image cannot be made again; server/parity scans one of its own", "scan-root-filter": "the image cannot be made again; server/parity scans one of its own",
		"local-only-from-elsewhere": "needs an address that is not loopback; server/intercept tests who is let in from afar",
	}
}

const dhcpTests = "server/netplane and test/e2e have clients on a network"

// discover is a DHCPDISCOVER (RFC 2131, section 2).
func discover() []byte {
	packet := make([]byte, 300)
	copy(packet, []byte{1, 1, 6, 0, 0x5a, 0x5a, 0, 1})
	copy(packet[28:], []byte{0x52, 0x54, 0x0a, 0x63, 1, 0x14})
	copy(packet[236:], []byte{99, 130, 83, 99, 53, 1, 1, 255})
	return packet
}
