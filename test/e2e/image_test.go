package e2e

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/test/guest"
)

// dial connects to the daemon's admin socket.
func (d *daemon) dial() *grpc.ClientConn {
	d.t.Helper()
	cc, err := grpc.NewClient("unix://"+filepath.Join(d.dir, "sock"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { _ = cc.Close() })
	return cc
}

// addImage adds a file as an image of the host.
func addImage(ctx context.Context, t *testing.T, d *daemon, cc *grpc.ClientConn, name, file string) {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(raw)
	in := filepath.Join(d.dir, "state", "images", name)
	if err := os.WriteFile(in, raw, 0o600); err != nil { //nolint:gosec // a path in the test's own folder
		t.Fatal(err)
	}
	stream, err := hypervisorv1.NewLocalImageServiceClient(cc).AddLocalImage(ctx, &hypervisorv1.AddLocalImageRequest{
		Spec: &hypervisorv1.LocalImageSpec{
			Name: "guests/" + name, FilterLines: []string{"/root/", "/var/kept$"}, ExpectedSha256: hex.EncodeToString(sum[:]),
		},
		Source: &hypervisorv1.AddLocalImageRequest_Url{Url: "file://" + in},
	})
	if err != nil {
		t.Fatal(err)
	}
	last(t, stream.Recv, func(m *hypervisorv1.AddLocalImageResponse) bool { return m.GetImage() != nil })
}

// last reads answers until done says that one is the last.
func last[M any](t *testing.T, recv func() (M, error), done func(M) bool) {
	t.Helper()
	for {
		m, err := recv()
		if err != nil {
			t.Fatal(err)
		}
		if done(m) {
			return
		}
	}
}

// withMarker makes a disk of the guest that says another marker.
func withMarker(t *testing.T, marker string) string {
	t.Helper()
	raw, err := os.ReadFile(guest.Cache(t).Raw)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	disk, text := filepath.Join(dir, "disk.raw"), filepath.Join(dir, "marker")
	if err := os.WriteFile(disk, raw, 0o600); err != nil { //nolint:gosec // a path in the test's own folder
		t.Fatal(err)
	}
	write(t, text, marker+"\n")
	const root = "?offset=51380224" // sector 2048 + 48 MiB, see package guest
	for _, command := range []string{"rm /etc/hyperplane-marker", "write " + text + " /etc/hyperplane-marker"} {
		if out, err := exec.CommandContext(t.Context(), "/usr/sbin/debugfs", "-w", "-R", command, disk+root).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	return disk
}

// filesystemSize returns the size of the guest's root file system in bytes.
func filesystemSize(t *testing.T, disk string) int64 {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "/usr/sbin/dumpe2fs", "-h", disk+"?offset=51380224").Output()
	if err != nil {
		t.Fatal(err)
	}
	var count, size int64
	for line := range strings.Lines(string(out)) {
		_, _ = fmt.Sscanf(line, "Block count: %d", &count)
		_, _ = fmt.Sscanf(line, "Block size: %d", &size)
	}
	return count * size
}

// TestImages takes a real guest through its images: its root volume is replaced by one that is larger, with its file system grown and a file of ours in it,
// then patched while it runs, looked into, and put back.
func TestImages(t *testing.T) {
	t.Parallel()
	d, _ := startOnLibvirt(t, nil)
	ctx, cc := t.Context(), d.dial()
	addImage(ctx, t, d, cc, "first", guest.Cache(t).QCOW2)
	addImage(ctx, t, d, cc, "second", withMarker(t, "second"))
	vms, images := hypervisorv1.NewVmServiceClient(cc), hypervisorv1.NewImageServiceClient(cc)
	created, err := vms.CreateVmAsync(ctx, &hypervisorv1.CreateVmAsyncRequest{Spec: &hypervisorv1.CreateVmSpec{
		VmInfo:     &hypervisorv1.VmInfo{Hostname: "guest-1", MemoryInMib: 160, MilliCpus: 1000, ImageName: "guests/first"},
		DoNotStart: true,
	}})
	if err != nil {
		t.Fatal(err)
	}
	uuid := created.GetVmInfo().GetUuid()
	d.becomes("STATE_STOPPED")

	replace, err := images.ReplaceVmImage(ctx)
	if err != nil {
		t.Fatal(err)
	}
	err = replace.Send(&hypervisorv1.ReplaceVmImageRequest{Vm: uuid, Source: &hypervisorv1.ImageSource{
		ImageName: "guests/first", MinimumFreeBytes: 64 << 20,
		OverlayFiles: map[string][]byte{"/etc/hyperplane-marker": []byte("overlaid\n"), "/var/kept": []byte("kept"), "/var/not-kept": nil},
	}})
	if err != nil {
		t.Fatal(err)
	}
	last(t, replace.Recv, (*hypervisorv1.ReplaceVmImageResponse).GetFinal)
	d.must("vm", "start", "guest-1")
	d.must("console", "guest-1", "--until", "marker=overlaid")

	patch, err := images.PatchVmImage(ctx, &hypervisorv1.PatchVmImageRequest{Vm: uuid, ImageName: "guests/second"})
	if err != nil {
		t.Fatal(err)
	}
	last(t, patch.Recv, (*hypervisorv1.PatchVmImageResponse).GetFinal)
	d.must("console", "guest-1", "--until", "marker=second")
	d.must("vm", "stop", "guest-1")

	tree, err := images.ScanVmRoot(ctx, &hypervisorv1.ScanVmRootRequest{Vm: uuid, FilterLines: []string{"/bin/"}})
	if err != nil {
		t.Fatal(err)
	}
	has := func(path string) bool {
		return slices.ContainsFunc(tree.GetEntries(), func(e *hypervisorv1.FileEntry) bool { return e.GetPath() == path })
	}
	if !has("/etc/hyperplane-marker") || !has("/var/kept") || has("/var/not-kept") {
		t.Errorf("entries: %v", tree)
	}
	root := filepath.Join(d.dir, "state", "volumes", uuid, "root")
	if size := filesystemSize(t, root); size < 80<<20 {
		t.Errorf("the guest's file system was not grown: it has %d bytes", size)
	}
	if _, err := images.RestoreVmImage(ctx, &hypervisorv1.RestoreVmImageRequest{Vm: uuid}); err != nil {
		t.Fatal(err)
	}
	info, err := vms.GetVmInfo(ctx, &hypervisorv1.GetVmInfoRequest{Vm: uuid})
	if err != nil || info.GetVmInfo().GetImageName() != "guests/first" || info.GetVmInfo().GetVolumes()[0].GetSize() < 128<<20 {
		t.Errorf("%v, %v", info, err)
	}
	left := entries(t, filepath.Dir(root))
	if slices.ContainsFunc(left, func(n string) bool {
		return strings.Contains(n, "replacing") || strings.HasSuffix(n, ".old") || n[0] == '.'
	}) {
		t.Errorf("files left: %v", left)
	}
	if out, err := exec.CommandContext(ctx, "losetup", "--list", "--noheadings", "--output", "BACK-FILE").CombinedOutput(); err != nil || strings.Contains(string(out), d.dir) {
		t.Errorf("loop devices left: %s %v", out, err)
	}
}
