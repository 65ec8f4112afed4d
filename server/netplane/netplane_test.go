package netplane_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"google.golang.org/protobuf/types/known/durationpb"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/feed"
	"github.com/hyperplane-project/hyperplane/server/hypervisor/fake"
	"github.com/hyperplane-project/hyperplane/server/netplane"
	"github.com/hyperplane-project/hyperplane/server/netplane/metadata"
	"github.com/hyperplane-project/hyperplane/server/netplane/watch"
	"github.com/hyperplane-project/hyperplane/server/network"
	"github.com/hyperplane-project/hyperplane/server/userdata"
)

// world is a subnet on a bridge that is really served.
type world struct {
	*network.Service
	t      *testing.T
	subnet network.Subnet
	tracer *metadata.Tracer
	folder string
	vms    map[string]*hypervisorv1.VmInfo // by IP address; filled before guests ask
}

// Info implements metadata.VMs.
func (w *world) Info(ref string) (*hypervisorv1.VmInfo, error) {
	if vm := w.vms[ref]; vm != nil {
		return vm, nil
	}
	return nil, fault.New(fault.NotFound, "no VM %s", ref)
}

// newWorld serves the subnet 10.third.0.0/24 on a bridge, whose router is the host unless change says otherwise.
func newWorld(t *testing.T, name, third string, change func(*network.Subnet)) *world {
	t.Helper()
	prefix := "10.99." + third + "."
	w := &world{t: t, tracer: metadata.NewTracer(), folder: t.TempDir(), vms: make(map[string]*hypervisorv1.VmInfo)}
	w.subnet = network.Subnet{
		ID: name, Bridge: name, Existing: true, DHCP: "hyperplane", Gateway: netip.MustParsePrefix(prefix + "1/24"),
		First: netip.MustParseAddr(prefix + "10"), Last: netip.MustParseAddr(prefix + "20"), Domain: "example.internal",
		DNS: []netip.Addr{netip.MustParseAddr("192.0.2.53")}, DynamicFirst: netip.MustParseAddr(prefix + "100"), DynamicLast: netip.MustParseAddr(prefix + "101"),
	}
	if change != nil {
		change(&w.subnet)
	}
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	plane := &netplane.Plane{Log: log, Now: time.Now, Metadata: &metadata.Service{
		Log: log, VMs: w, Folder: func(string) (string, error) { return w.folder, nil }, Now: time.Now, Tracer: w.tracer,
		Document: func(info *hypervisorv1.VmInfo) ([]byte, error) { return json.Marshal(info.GetHostname()) },
	}}
	t.Cleanup(func() { plane.Close(context.WithoutCancel(t.Context())) })
	_, driver := fake.New(fake.Options{})
	t.Cleanup(func() { _ = driver.Close() })
	var err error
	w.Service, err = network.Open(t.Context(), network.Deps{Log: log, Driver: driver, Feed: feed.New(time.Now), Plane: plane, Now: time.Now}, []network.Subnet{w.subnet})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// vm gives a VM an address, and attaches its subnet.
func (w *world) vm(hostname string) *hypervisorv1.VmInfo {
	w.t.Helper()
	const uuid = "uuid-1"
	a, id, err := w.Allocate(network.Request{UUID: uuid, Hostname: hostname})
	if err != nil {
		w.t.Fatal(err)
	}
	info := &hypervisorv1.VmInfo{Uuid: uuid, Hostname: hostname, Address: a, SubnetId: id}
	w.vms[a.GetIpAddress()] = info
	if _, err := w.Attach(w.t.Context(), id); err != nil {
		w.t.Fatal(err)
	}
	return info
}

func expect(t *testing.T, got map[string]string, want map[string]string) {
	t.Helper()
	for k, v := range want {
		if got[k] != v {
			t.Errorf("%s: %q, want %q", k, got[k], v)
		}
	}
}

func TestVMGetsItsAddress(t *testing.T) {
	t.Parallel()
	makeBridge(t, "lease", "10.99.1.1/24")
	w := newWorld(t, "lease", "1", nil)
	vm := w.vm("web.example.internal")
	done, stop, err := w.Acknowledged("uuid-1")
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	g := newGuest(t, "lease", vm.GetAddress().GetMacAddress())
	expect(t, g.lease(), map[string]string{
		"ip": "10.99.1.10", "subnet": "255.255.255.0", "router": "10.99.1.1", "dns": "192.0.2.53", "domain": "example.internal", "hostname": "web",
		"serverid": "10.99.1.1", "lease": "86400", "staticroutes": "",
	})
	select {
	case <-done:
	case <-time.After(patience):
		t.Error("the acknowledgement was not seen")
	}

	w.Lease("uuid-1", false)
	g.noLease()
	w.Lease("uuid-1", true)
	w.Restore([]*hypervisorv1.VmInfo{{Uuid: "uuid-1", Hostname: "renamed", Address: vm.GetAddress(), SubnetId: "lease"}})
	expect(t, g.lease(), map[string]string{"ip": "10.99.1.10", "hostname": "renamed"})
}

func TestRenewalAndRefusal(t *testing.T) {
	t.Parallel()
	makeBridge(t, "renew", "10.99.2.1/24")
	w := newWorld(t, "renew", "2", nil)
	vm := w.vm("web")
	g := newGuest(t, "renew", vm.GetAddress().GetMacAddress())
	client := g.client()
	g.awaitEvents("deconfig", "bound")
	if err := client.Signal(syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	g.awaitEvents("deconfig", "bound", "renew")

	w.Release("uuid-1")
	if _, _, err := w.Allocate(network.Request{UUID: "uuid-1", Want: &hypervisorv1.Address{IpAddress: "10.99.2.15", MacAddress: g.mac}}); err != nil {
		t.Fatal(err)
	}
	if err := client.Signal(syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	g.awaitEvents("bound", "renew", "nak", "deconfig", "bound")
	expect(t, g.told("bound"), map[string]string{"ip": "10.99.2.15"})
}

func TestDynamicAndExternal(t *testing.T) {
	t.Parallel()
	makeBridge(t, "mixed", "10.99.3.1/24")
	w := newWorld(t, "mixed", "3", nil)
	w.vm("web")
	const mac = "52:54:00:00:03:01"
	_, err := w.RegisterExternalLeases(t.Context(), &hypervisorv1.RegisterExternalLeasesRequest{
		Addresses: []*hypervisorv1.Address{{IpAddress: "10.99.3.200", MacAddress: mac}}, Hostnames: []string{"outside"},
	})
	if err != nil {
		t.Fatal(err)
	}
	expect(t, newGuest(t, "mixed", mac).lease(), map[string]string{"ip": "10.99.3.200", "hostname": "outside"})
	a, b, c := newGuest(t, "mixed", "52:54:00:00:03:02"), newGuest(t, "mixed", "52:54:00:00:03:03"), newGuest(t, "mixed", "52:54:00:00:03:04")
	expect(t, a.lease(), map[string]string{"ip": "10.99.3.100", "lease": "3600"})
	expect(t, b.lease("-r", "10.99.3.100"), map[string]string{"ip": "10.99.3.101"})
	c.noLease() // the range has two addresses
	expect(t, a.lease(), map[string]string{"ip": "10.99.3.100"})
}

func TestMetadata(t *testing.T) {
	t.Parallel()
	makeBridge(t, "meta", "10.99.4.1/24")
	w := newWorld(t, "meta", "4", func(n *network.Subnet) { n.Isolated = true })
	vm := w.vm("web")
	if err := os.WriteFile(filepath.Join(w.folder, userdata.File), []byte("#cloud-config\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	g := newGuest(t, "meta", vm.GetAddress().GetMacAddress())
	expect(t, g.lease(), map[string]string{"router": "", "staticroutes": "169.254.169.254/32 10.99.4.1"})
	paths, stop := w.tracer.Trace("uuid-1")
	defer stop()
	for path, want := range map[string]string{
		"/latest/user-data": "#cloud-config\n", "/latest/meta-data/local-ipv4": "10.99.4.10", "/latest/dynamic/instance-identity/document": `"web"`,
		"/latest/meta-data/instance-id": "uuid-1", "/datasource/SmallStack": "true\n",
	} {
		if status, body := g.get(path); status != 200 || body != want {
			t.Errorf("%s: %d %q, want %q", path, status, body, want)
		}
		if saw := <-paths; saw != path {
			t.Errorf("traced %q, want %q", saw, path)
		}
	}
	if status, _ := g.get("/latest/user-data", "X-Forwarded-For: 192.0.2.1"); status != 403 {
		t.Errorf("forwarded: %d", status)
	}

	// A neighbour that takes the VM's address is not told its secrets.
	g.run("ip", "link", "set", "eth0", "down")
	thief := newGuest(t, "meta", "52:54:00:00:04:02")
	thief.run("ip", "addr", "add", "10.99.4.10/24", "dev", "eth0")
	thief.run("ip", "route", "add", "169.254.169.254", "via", "10.99.4.1")
	run(t, "ip", "neigh", "flush", "dev", "meta")
	if status, body := thief.get("/latest/user-data"); status != 403 {
		t.Errorf("the thief got %d %q", status, body)
	}
}

// TestForeignRouter serves a bridge on which the host has no address and somebody else is the router.
func TestForeignRouter(t *testing.T) {
	t.Parallel()
	makeBridge(t, "given", "")
	w := newWorld(t, "given", "5", nil)
	vm := w.vm("web")
	g := newGuest(t, "given", vm.GetAddress().GetMacAddress())
	expect(t, g.lease(), map[string]string{
		"ip": "10.99.5.10", "router": "10.99.5.1", "serverid": "169.254.169.254", "staticroutes": "169.254.169.254/32 0.0.0.0 0.0.0.0/0 10.99.5.1",
	})
	run(t, "ip", "route", "add", "10.99.5.0/24", "dev", "given") // the way back to the guest, which a host with an address there has
	if status, body := g.get("/latest/meta-data/instance-id"); status != 200 || body != "uuid-1" {
		t.Errorf("instance-id: %d %q", status, body)
	}
}

func TestNetworkBoot(t *testing.T) {
	t.Parallel()
	makeBridge(t, "boot", "10.99.6.1/24")
	w := newWorld(t, "boot", "6", nil)
	const mac = "52:54:00:00:06:01"
	program := strings.Repeat("program ", 1000)
	req := &hypervisorv1.NetbootMachineRequest{
		Address: &hypervisorv1.Address{IpAddress: "10.99.6.50", MacAddress: mac}, Hostname: "bare", NumAcknowledgementsToWaitFor: 2,
		Files: map[string][]byte{"pxelinux.0": []byte(program), "pxelinux.cfg/default": []byte("x")}, WaitTimeout: durationpb.New(patience),
	}
	result := make(chan error, 1)
	go func() { _, err := w.NetbootMachine(t.Context(), req); result <- err }()
	g := newGuest(t, "boot", mac)
	expect(t, g.lease(), map[string]string{"ip": "10.99.6.50", "hostname": "bare", "siaddr": "10.99.6.1", "boot_file": "pxelinux.0", "tftp": "10.99.6.1", "bootfile": "pxelinux.0"})
	select {
	case err := <-result:
		t.Fatalf("ended after one acknowledgement: %v", err)
	default:
	}
	g.lease()
	if err := <-result; err != nil {
		t.Fatal(err)
	}
	for _, options := range [][]string{nil, {"-b", "1400"}, {"-b", "64"}} {
		out := filepath.Join(g.dir, "out")
		g.run(append([]string{"busybox", "tftp", "-g", "-r", "pxelinux.0", "-l", out}, append(options, "10.99.6.1")...)...)
		if got, err := os.ReadFile(out); err != nil || string(got) != program {
			t.Errorf("%v: %d bytes, %v", options, len(got), err)
		}
	}

	// A machine that does not come leaves nothing behind.
	req.Address = &hypervisorv1.Address{IpAddress: "10.99.6.51", MacAddress: "52:54:00:00:06:02"}
	req.WaitTimeout = durationpb.New(time.Millisecond)
	for range 2 {
		if _, err := w.NetbootMachine(t.Context(), req); !fault.Is(err, fault.DeadlineExceeded) {
			t.Errorf("a machine that does not come: %v", err)
		}
	}
	req.Address.IpAddress = "10.99.6.50"
	if _, err := w.NetbootMachine(t.Context(), req); !fault.Is(err, fault.AlreadyExists) {
		t.Errorf("the address of a machine that boots: %v", err)
	}
}

func TestWatch(t *testing.T) {
	t.Parallel()
	makeBridge(t, "seen", "10.99.7.1/24")
	w := newWorld(t, "seen", "7", nil)
	vm := w.vm("web")
	g := newGuest(t, "seen", vm.GetAddress().GetMacAddress())
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	packets, _, err := watch.Watch(ctx, []string{"seen"})
	if err != nil {
		t.Fatal(err)
	}
	g.lease()
	for _, want := range []dhcpv4.MessageType{dhcpv4.MessageTypeDiscover, dhcpv4.MessageTypeOffer, dhcpv4.MessageTypeRequest, dhcpv4.MessageTypeAck} {
		select {
		case p := <-packets:
			m, err := dhcpv4.FromBytes(p.Payload)
			if err != nil || m.MessageType() != want || p.Interface != "seen" || m.ClientHWAddr.String() != g.mac {
				t.Errorf("%v, %v; want %v", m, err, want)
			}
		case <-ctx.Done():
			t.Fatalf("no %v seen", want)
		}
	}
	if _, _, err := watch.Watch(ctx, []string{"nowhere"}); !fault.Is(err, fault.FailedPrecondition) {
		t.Errorf("an interface that is not there: %v", err)
	}
}

// TestBridgeMadeAnew checks that a bridge that was removed and made again is served by the next Attach.
func TestBridgeMadeAnew(t *testing.T) {
	t.Parallel()
	makeBridge(t, "anew", "10.99.8.1/24")
	w := newWorld(t, "anew", "8", nil)
	vm := w.vm("web")
	run(t, "ip", "link", "del", "anew")
	if _, err := w.Attach(t.Context(), "anew"); !fault.Is(err, fault.FailedPrecondition) {
		t.Errorf("without the bridge: %v", err)
	}
	makeBridge(t, "anew", "10.99.8.1/24")
	if _, err := w.Attach(t.Context(), "anew"); err != nil {
		t.Fatal(err)
	}
	expect(t, newGuest(t, "anew", vm.GetAddress().GetMacAddress()).lease(), map[string]string{"ip": "10.99.8.10"})
}

func TestVLAN(t *testing.T) {
	t.Parallel()
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	run(t, "ip", "link", "add", "uplink0", "type", "veth", "peer", "name", "trunk0")
	run(t, "ip", "link", "set", "uplink0", "up")
	run(t, "ip", "link", "set", "trunk0", "up")
	p := &netplane.Plane{Log: log, Now: time.Now, Uplink: "uplink0", Metadata: new(metadata.Service)}
	s := netplane.Subnet{ID: "v", Bridge: "hp-v", Gateway: netip.MustParsePrefix("10.99.9.1/24"), VLAN: 7, Metadata: false}
	none := &netplane.Plane{Log: log, Now: time.Now}
	if err := none.Serve(t.Context(), s); !fault.Is(err, fault.FailedPrecondition) {
		t.Errorf("without an uplink: %v", err)
	}
	err := p.Serve(t.Context(), s)
	if fault.Is(err, fault.Unimplemented) { // by the kernel
		if out := run(t, "ip", "link"); strings.Contains(out, "uplink0.7") || strings.Contains(out, "hp-v") {
			t.Errorf("left behind after %v: %s", err, out)
		}
		return
	}
	if err == nil {
		run(t, "ip", "addr", "add", "10.99.9.1/24", "dev", "hp-v")
		err = p.Serve(t.Context(), s)
	}
	if err != nil {
		t.Fatal(err)
	}
	if out := run(t, "ip", "-d", "link", "show", "uplink0.7"); !strings.Contains(out, "vlan protocol 802.1Q id 7") || !strings.Contains(out, "master hp-v") {
		t.Errorf("the VLAN's interface: %s", out)
	}
	if err := p.Stop(t.Context(), "v"); err != nil {
		t.Fatal(err)
	}
	if out := run(t, "ip", "link"); strings.Contains(out, "uplink0.7") || strings.Contains(out, "hp-v") {
		t.Errorf("left behind: %s", out)
	}
}
