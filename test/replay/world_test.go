package replay_test

import (
	"context"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/server/config"
	"github.com/hyperplane-project/hyperplane/server/servertest"
)

// world is a server with what is known of its differences from the one of the recordings.
type world struct {
	*servertest.Server
	t      *testing.T
	suite  *suite
	people *people
	// images serves what the recordings' image URLs name.
	images *httptest.Server
	// texts are replaced wherever they are part of a text that was recorded, values where they are all of it (bytes as hexadecimal).
	texts  [][2]string
	values map[string]string
	second *world
}

func newWorld(t *testing.T, s *suite, change func(*config.Config)) *world {
	t.Helper()
	w := &world{t: t, suite: s, people: s.people, values: make(map[string]string)}
	files := http.NewServeMux()
	for name, content := range map[string][]byte{"boot2k.img": s.boot[:2048], "other2k.img": s.other} {
		files.HandleFunc("/"+name, func(out http.ResponseWriter, _ *http.Request) { _, _ = out.Write(content) })
	}
	w.images = httptest.NewServer(files)
	t.Cleanup(w.images.Close)
	dir := t.TempDir()
	w.Server = servertest.Start(t, func(c *config.Config) {
		c.Subnets, c.ClientCAFile, c.IdentityCAFile = nil, s.people.full, s.people.names
		c.MoreVolumeDirs, c.ImageDir = []string{filepath.Join(dir, "vol1")}, filepath.Join(dir, "images")
		c.Hypervisor.LogDir, c.PowerOffCommand = t.TempDir(), []string{"touch", filepath.Join(dir, "powered-off")}
		if change != nil {
			change(c)
		}
	})
	w.write(filepath.Join(w.Config.ImageDir, "boot2k.img"), s.boot[:2048])
	w.texts = [][2]string{{"http://127.0.0.1:8080", w.images.URL}, {"/var/lib/hv-peer/images", w.Config.ImageDir}}
	cookie, err := os.ReadFile(filepath.Join(w.Config.StateDir, "root-cookie"))
	if err != nil {
		t.Fatal(err)
	}
	w.values[recordedCookie] = hex.EncodeToString(cookie)
	return w
}

// recordedCookie is what showed in the recordings that the client is root, in hexadecimal.
const recordedCookie = "5bd4ca50d94f4467a120c92225dfdb4d836cd03dbd207c03ba1b2582a367a2e9"

func (w *world) write(path string, content []byte) {
	w.t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// in returns the world for a subtest, which its failures then end.
func (w *world) in(t *testing.T) *world {
	t.Helper()
	sub := *w
	sub.t = t
	return &sub
}

func (w *world) vms() hypervisorv1.VmServiceClient {
	return hypervisorv1.NewVmServiceClient(w.Dial(true))
}

func (w *world) networks() hypervisorv1.NetworkServiceClient {
	return hypervisorv1.NewNetworkServiceClient(w.Dial(true))
}

func (w *world) info(ctx context.Context, vm string) *hypervisorv1.VmInfo {
	w.t.Helper()
	res, err := w.vms().GetVmInfo(ctx, &hypervisorv1.GetVmInfoRequest{Vm: vm})
	if err != nil {
		w.t.Fatal(err)
	}
	return res.GetVmInfo()
}

// subnets adds net1 and net2.
func (w *world) subnets(ctx context.Context) {
	w.t.Helper()
	_, err := w.networks().UpdateSubnets(ctx, &hypervisorv1.UpdateSubnetsRequest{Add: []*hypervisorv1.Subnet{
		{Id: "net1", IpGateway: "10.99.0.1", IpMask: "255.255.0.0", DomainNameServers: []string{"10.99.0.1"}},
		{Id: "net2", IpGateway: "10.98.0.1", IpMask: "255.255.0.0", DomainName: "lab.test", DomainNameServers: []string{"10.98.0.1"}, AllowedGroups: []string{"team-a"}},
	}})
	if err != nil {
		w.t.Fatal(err)
	}
}

// create makes a VM of alice's, which is stopped and has the small boot image.
func (w *world) create(ctx context.Context, address, name string, change func(*hypervisorv1.CreateVmSpec)) {
	w.t.Helper()
	image := w.suite.boot[:2048]
	spec := &hypervisorv1.CreateVmSpec{
		DoNotStart: true, ImageDataSize: uint64(len(image)), SkipMemoryCheck: true,
		VmInfo: &hypervisorv1.VmInfo{
			Address: &hypervisorv1.Address{IpAddress: address}, Hostname: name, SubnetId: "net1", MemoryInMib: 16, MilliCpus: 100, Tags: map[string]string{"Name": name},
		},
	}
	if change != nil {
		change(spec)
	}
	if n := spec.GetImageDataSize(); n > uint64(len(image)) {
		image = append(w.suite.boot, make([]byte, 8<<20)...)[:n]
	}
	stream, err := hypervisorv1.NewVmServiceClient(w.DialAs(w.people.certs["alice"])).CreateVm(ctx)
	if err != nil {
		w.t.Fatal(err)
	}
	parts := []*hypervisorv1.CreateVmRequest{{Part: &hypervisorv1.CreateVmRequest_Spec{Spec: spec}}}
	if spec.GetImageDataSize() > 0 {
		for piece := range slices.Chunk(image, 1<<20) {
			parts = append(parts, &hypervisorv1.CreateVmRequest{Part: &hypervisorv1.CreateVmRequest_ImageData{ImageData: piece}})
		}
	}
	for _, m := range parts {
		if err := stream.Send(m); err != nil {
			w.t.Fatal(err)
		}
	}
	for final := false; !final; {
		m, err := stream.Recv()
		if err != nil {
			w.t.Fatalf("%s: %v", name, err)
		}
		final = m.GetFinal()
	}
}

// pause waits a moment, for what has no event.
func (w *world) pause(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(10 * time.Millisecond):
	}
}

// pool adds addresses, with the MAC addresses that recordings have for them.
func (w *world) pool(addresses ...string) {
	w.t.Helper()
	req := new(hypervisorv1.ChangeAddressPoolRequest)
	for _, a := range addresses {
		ip := net.ParseIP(a).To4()
		req.AddressesToAdd = append(req.AddressesToAdd, &hypervisorv1.Address{
			IpAddress: a, MacAddress: fmt.Sprintf("52:54:%02x:%02x:%02x:%02x", ip[0], ip[1], ip[2], ip[3]),
		})
	}
	if _, err := w.networks().ChangeAddressPool(w.t.Context(), req); err != nil {
		w.t.Fatal(err)
	}
}

// patience is how long the server may take for anything.
const patience = 20 * time.Second
