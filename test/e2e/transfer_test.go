package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	clients "github.com/hyperplane-project/hyperplane/clients/go"
	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/test/guest"
	"github.com/hyperplane-project/hyperplane/test/privatelibvirt"
	"github.com/hyperplane-project/hyperplane/test/proc"
)

// peerHost is a host with a libvirtd and a network namespace of its own, and a cable to the other host.
type peerHost struct {
	*daemon
	lv      *privatelibvirt.Instance
	address string // host:port of its API for the other host
	cc      *grpc.ClientConn
}

// startPeers starts two hosts that may take VMs from each other.
func startPeers(t *testing.T) (a, b *peerHost) {
	t.Helper()
	a, b = newPeerHost(t, "192.0.2.1"), newPeerHost(t, "192.0.2.2")
	link(t, a, b)
	for _, h := range []*peerHost{a, b} {
		h.launch()
	}
	for _, pair := range [][2]*peerHost{{a, b}, {b, a}} {
		_, err := proc.Run(t.Context(), nil, program(t, "hypervisord"), "issue-certificate", "--state-dir", filepath.Join(pair[0].dir, "state"),
			"--name", "host-"+pair[1].address, "--out", filepath.Join(pair[1].dir, "peer"), "--method", "VmTransferService.PrepareVmForMigration",
			"--method", "PeerService.SendVm", "--method", "PeerService.Tunnel")
		if err != nil {
			t.Fatal(err)
		}
	}
	return a, b
}

func newPeerHost(t *testing.T, ip string) *peerHost {
	t.Helper()
	lv := privatelibvirt.New(t, privatelibvirt.Options{})
	dir, err := os.MkdirTemp("", "hp-e2e-") //nolint:usetesting // sockets lie below it, whose paths must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return &peerHost{daemon: &daemon{t: t, dir: dir}, lv: lv, address: net.JoinHostPort(ip, "6976")}
}

// link connects the networks of two hosts.
func link(t *testing.T, a, b *peerHost) {
	t.Helper()
	run := func(args ...string) {
		t.Helper()
		if _, err := proc.Run(t.Context(), nil, args[0], args[1:]...); err != nil {
			t.Fatal(err)
		}
	}
	run("ip", "link", "add", "cable", "netns", fmt.Sprint(a.lv.PID), "type", "veth", "peer", "name", "cable", "netns", fmt.Sprint(b.lv.PID))
	for _, h := range []*peerHost{a, b} {
		ip, _, _ := net.SplitHostPort(h.address)
		in := []string{"nsenter", fmt.Sprintf("--net=/proc/%d/ns/net", h.lv.PID), "--", "ip"}
		run(append(in, "address", "add", ip+"/30", "dev", "cable")...)
		run(append(in, "link", "set", "cable", "up")...)
		run(append(in, "link", "set", "lo", "up")...)
	}
}

// launch starts the host's daemon.
func (h *peerHost) launch() {
	h.t.Helper()
	_ = os.Remove(filepath.Join(h.dir, "address"))
	ip, _, _ := net.SplitHostPort(h.address)
	peer := filepath.Join(h.dir, "peer")
	config := filepath.Join(h.dir, "config.yaml")
	write(h.t, config, fmt.Sprintf("hypervisor: {run_dir: %s, accel: tcg}\ntls_names: [%s]\npeers: {cert_file: %s, key_file: %s, ca_file: %s}\n",
		filepath.Join(h.dir, "run"), ip, filepath.Join(peer, "client.pem"), filepath.Join(peer, "client.key"), filepath.Join(peer, "ca.pem")))
	var err error
	h.Program, err = proc.Start(nil, nil, "nsenter", fmt.Sprintf("--net=/proc/%d/ns/net", h.lv.PID), "--", program(h.t, "hypervisord"),
		"--state-dir", filepath.Join(h.dir, "state"), "--socket", filepath.Join(h.dir, "sock"), "--listen", h.address,
		"--address-file", filepath.Join(h.dir, "address"), "--config", config, "--libvirt-socket", h.lv.Socket)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() {
		h.Kill()
		if h.t.Failed() {
			h.t.Logf("%s:\n%s", h.address, h.Output())
		}
	})
	if _, err := h.File(h.t.Context(), filepath.Join(h.dir, "address")); err != nil {
		h.t.Fatal(err)
	}
	if h.cc, err = clients.Dial(clients.Config{Server: "unix://" + filepath.Join(h.dir, "sock")}); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = h.cc.Close() })
}

func (h *peerHost) token(ctx context.Context, vm string) []byte {
	h.t.Helper()
	identity := hypervisorv1.NewIdentityServiceClient(h.cc)
	_, _ = identity.DiscardVmAccessToken(ctx, &hypervisorv1.DiscardVmAccessTokenRequest{Vm: vm}) // one of an attempt that failed
	res, err := identity.GetVmAccessToken(ctx, &hypervisorv1.GetVmAccessTokenRequest{Vm: vm, Lifetime: durationpb.New(time.Hour)})
	if err != nil {
		h.t.Fatal(err)
	}
	return res.GetToken()
}

func (h *peerHost) info(ctx context.Context, vm string) (*hypervisorv1.VmInfo, error) {
	res, err := hypervisorv1.NewVmServiceClient(h.cc).GetVmInfo(ctx, &hypervisorv1.GetVmInfoRequest{Vm: vm})
	return res.GetVmInfo(), err
}

// bring moves a VM here. at is called with each progress text.
func (h *peerHost) bring(ctx context.Context, from *peerHost, vm string, mode hypervisorv1.MigrationMode, at func(string)) error {
	h.t.Helper()
	stream, err := hypervisorv1.NewVmTransferServiceClient(h.cc).MigrateVm(ctx)
	if err != nil {
		return err
	}
	start := &hypervisorv1.MigrateVmStart{Vm: vm, AccessToken: from.token(ctx, vm), SourceHypervisor: from.address, Mode: mode}
	if err := stream.Send(&hypervisorv1.MigrateVmRequest{Part: &hypervisorv1.MigrateVmRequest_Start{Start: start}}); err != nil {
		return err
	}
	for {
		m, err := stream.Recv()
		if err != nil {
			return err
		}
		if m.GetFinal() {
			return nil
		}
		if m.GetRequestCommit() {
			if err := stream.Send(&hypervisorv1.MigrateVmRequest{Part: &hypervisorv1.MigrateVmRequest_Commit{Commit: true}}); err != nil {
				return err
			}
			continue
		}
		at(m.GetProgressMessage())
	}
}

// only checks that a VM is RUNNING at one host and unknown to the other, without files.
func only(ctx context.Context, t *testing.T, at, notAt *peerHost, uuid string) {
	t.Helper()
	if info, err := at.info(ctx, uuid); err != nil || info.GetState() != hypervisorv1.State_STATE_RUNNING || info.GetUncommitted() {
		t.Errorf("where it should be: %v %v", info, err)
	}
	if _, err := notAt.info(ctx, uuid); status.Code(err) != codes.NotFound {
		t.Errorf("where it should not be: %v", err)
	}
	if _, err := os.Stat(filepath.Join(notAt.dir, "state", "volumes", uuid)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its files are where it should not be: %v", err)
	}
	if left, err := os.ReadDir(filepath.Join(notAt.dir, "run")); err != nil || len(left) != 0 {
		t.Errorf("its sockets are where it should not be: %v %v", left, err)
	}
}

// ask runs a command in the guest and returns the first line that it says. It is typed again until there is an answer: an emulated serial port may lose
// bytes of a line while the guest is busy.
func (s *serial) ask(command string) string {
	s.t.Helper()
	// The sum tells the answer from a complaint about a line that lost bytes.
	number := time.Now().UnixNano() % 1e9
	mark := fmt.Sprintf("SAYS%d:", number)
	line := fmt.Sprintf("\nprintf 'SAYS%%s:%%s\\n' $((%d+1)) \"$(%s)\"\n", number-1, command)
	done, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		again := time.NewTicker(5 * time.Second)
		defer again.Stop()
		for {
			if err := s.stream.Send(&hypervisorv1.ConnectToVmSerialPortRequest{Data: []byte(line)}); err != nil {
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
	all := s.await(mark)
	for !strings.Contains(all[strings.LastIndex(all, mark):], "\n") {
		all += s.await("\n")
	}
	close(done)
	if err := <-ended; err != nil {
		s.t.Error(err)
	}
	answer, _, _ := strings.Cut(all[strings.LastIndex(all, mark)+len(mark):], "\n")
	return strings.TrimSpace(answer)
}

// busy writes a new block to the disk and says a number, five times a second.
const busy = `[ -e /busy ] || { touch /busy; (i=0; while [ ! -e /enough ]; do i=$((i+1)); dd if=/dev/urandom of=/blocks bs=64k count=1 seek=$((i%32)) ` +
	`conv=notrunc 2>/dev/null; sync; echo COUNT:$i >/dev/ttyS0; usleep 200000; done) >/dev/null & }; echo begun`

// greets shows that the guest answers on the network of a host. It is another program that asks: a thread of this one that enters a namespace must end, and
// the daemons that it happens to have started end with it.
func (h *peerHost) greets(ctx context.Context, ip string) error {
	const ask = `exec 3<>/dev/tcp/$0/7; echo ping >&3; read -r -t 10 answer <&3; [ "$answer" = ping ]`
	_, err := proc.Run(ctx, nil, "nsenter", fmt.Sprintf("--net=/proc/%d/ns/net", h.lv.PID), "--", "timeout", "20", "bash", "-c", ask, ip)
	return err
}

// TestTransferBetweenHosts moves a real guest between two real hosts in all ways.
func TestTransferBetweenHosts(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	a, b := startPeers(t)
	userData := filepath.Join(t.TempDir(), "user-data")
	write(t, userData, "#!/bin/sh\necho hello\n")
	a.must("vm", "create", "guest-1", "--memory", "160M", "--cpus", "1", "--image", guest.Cache(t).QCOW2, "--progress", "none", "--user-data", userData)
	v := a.vm("guest-1")
	port := a.serial(ctx, v.UUID)
	port.await("GUEST IP")
	boot := port.ask("cat /proc/sys/kernel/random/boot_id")
	port.ask("echo here >/marker; sync; echo done")
	port.ask(busy)
	port.await("COUNT:3")

	modeLive := hypervisorv1.MigrationMode_MIGRATION_MODE_LIVE
	began := time.Now()
	var steps []string
	if err := b.bring(ctx, a, v.UUID, modeLive, func(text string) { steps = append(steps, text) }); err != nil {
		t.Fatal(err, steps)
	}
	t.Logf("live: %v in all; %s", time.Since(began).Round(time.Millisecond), steps)
	only(ctx, t, b, a, v.UUID)
	port = b.serial(ctx, v.UUID)
	port.await("COUNT:")
	check := func(h *peerHost) {
		t.Helper()
		for command, want := range map[string]string{"cat /proc/sys/kernel/random/boot_id": boot, "cat /marker": "here"} {
			if got := port.ask(command); got != want {
				t.Errorf("%s: %q, want %q", command, got, want)
			}
		}
		if err := h.greets(ctx, v.Address.IP); err != nil {
			t.Errorf("the guest at %s: %v", v.Address.IP, err)
		}
	}
	check(b)

	// A move that is given up leaves it where it is.
	given, giveUp := context.WithCancel(ctx)
	err := a.bring(given, b, v.UUID, modeLive, func(text string) {
		if strings.HasPrefix(text, "moving") {
			giveUp()
		}
	})
	giveUp()
	if status.Code(err) != codes.Canceled {
		t.Errorf("given up: %v", err)
	}
	eventually(t, func() (string, bool) {
		info, _ := b.info(ctx, v.UUID)
		_, err := a.info(ctx, v.UUID)
		return info.String(), info.GetState() == hypervisorv1.State_STATE_RUNNING && status.Code(err) == codes.NotFound
	})
	only(ctx, t, b, a, v.UUID)
	check(b)

	// Nor does a daemon that is killed on the way take the guest along, be it that of the destination or of the source.
	for _, victim := range []*peerHost{a, b} {
		err := a.bring(ctx, b, v.UUID, modeLive, func(text string) {
			if strings.HasPrefix(text, "moving") {
				victim.Kill()
			}
		})
		if err == nil {
			t.Error("a daemon was killed, and the move succeeded")
		}
		victim.launch()
		eventually(t, func() (string, bool) {
			info, _ := b.info(ctx, v.UUID)
			_, err := a.info(ctx, v.UUID)
			return info.String(), info.GetState() == hypervisorv1.State_STATE_RUNNING && status.Code(err) == codes.NotFound
		})
		only(ctx, t, b, a, v.UUID)
		if victim == b {
			port = b.serial(ctx, v.UUID)
		}
		check(b)
	}

	// And back, whereupon what was written on the way must be on the disk.
	began = time.Now()
	if err := a.bring(ctx, b, v.UUID, modeLive, func(text string) { steps = append(steps, text) }); err != nil {
		t.Fatal(err, steps)
	}
	t.Logf("and back: %v in all; %s", time.Since(began).Round(time.Millisecond), steps[len(steps)-1])
	only(ctx, t, a, b, v.UUID)
	port = a.serial(ctx, v.UUID)
	port.await("COUNT:")
	port.ask("touch /enough; sleep 1; sync; echo done")
	sum := port.ask("sha256sum </blocks")
	if again := port.ask("echo 3 >/proc/sys/vm/drop_caches; sha256sum </blocks"); again != sum || len(sum) < 64 {
		t.Errorf("the disk has %q, and the guest wrote %q", again, sum)
	}
	check(a)
	if out := port.ask("udhcpc -i eth0 -s /sbin/udhcpc-script -q -n -t 10 -T 1 >/dev/null 2>&1; ip -o -4 addr show dev eth0"); !strings.Contains(out, " "+v.Address.IP+"/24 ") {
		t.Errorf("the guest's new lease: %s", out)
	}

	cold(ctx, t, a, b, v, sum)
	local(ctx, t, b)
}

// cold moves the guest running and stopped, and copies it.
func cold(ctx context.Context, t *testing.T, a, b *peerHost, v vm, sum string) {
	t.Helper()
	mode := hypervisorv1.MigrationMode_MIGRATION_MODE_COPY
	began := time.Now()
	if err := b.bring(ctx, a, v.UUID, mode, func(string) {}); err != nil {
		t.Fatal(err)
	}
	t.Logf("cold, running: %v", time.Since(began).Round(time.Millisecond))
	only(ctx, t, b, a, v.UUID)
	port := b.serial(ctx, v.UUID)
	port.await("GUEST IP")
	if got := port.ask("sha256sum </blocks"); got != sum {
		t.Errorf("after a cold move of a running guest the disk has %q, not %q", got, sum)
	}
	b.must("vm", "stop", "guest-1")
	var steps []string
	began = time.Now()
	if err := a.bring(ctx, b, v.UUID, hypervisorv1.MigrationMode_MIGRATION_MODE_LIVE_OR_COPY, func(text string) { steps = append(steps, text) }); err != nil {
		t.Fatal(err)
	}
	t.Logf("cold, stopped: %v; %s", time.Since(began).Round(time.Millisecond), steps)
	only(ctx, t, a, b, v.UUID)
	port = a.serial(ctx, v.UUID)
	port.await("GUEST IP")
	if got := port.ask("sha256sum </blocks"); got != sum {
		t.Errorf("after a cold move of a stopped guest the disk has %q, not %q", got, sum)
	}

	stream, err := hypervisorv1.NewVmTransferServiceClient(b.cc).CopyVm(ctx, &hypervisorv1.CopyVmRequest{
		Vm: v.UUID, AccessToken: a.token(ctx, v.UUID), SourceHypervisor: a.address, VmInfo: &hypervisorv1.VmInfo{Hostname: "twin"},
	})
	if err != nil {
		t.Fatal(err)
	}
	for {
		_, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	b.must("vm", "start", "twin")
	twin := b.serial(ctx, "twin")
	twin.await("GUEST IP")
	if got := twin.ask("sha256sum </blocks"); got != sum {
		t.Errorf("the copy's disk has %q, not %q", got, sum)
	}
	if info, err := a.info(ctx, v.UUID); err != nil || info.GetState() != hypervisorv1.State_STATE_RUNNING {
		t.Errorf("the copy's source: %v %v", info, err)
	}
	b.must("vm", "destroy", "twin")
	a.must("vm", "destroy", "guest-1")
}

// foreign is a machine as another user of libvirt defines it.
const foreign = `<domain type='qemu'><name>foreign</name><uuid>11111111-2222-4333-8444-555555555555</uuid><title>not ours</title>
<memory unit='MiB'>128</memory><vcpu>1</vcpu><os><type arch='x86_64' machine='pc'>hvm</type></os>
<devices><disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='%s'/><target dev='vda' bus='virtio'/></disk>
<serial type='pty'/></devices></domain>
`

// local takes a machine of libvirt over and gives it back.
func local(ctx context.Context, t *testing.T, h *peerHost) {
	t.Helper()
	virsh := func(args ...string) string {
		t.Helper()
		out, err := proc.Run(ctx, nil, "virsh", append([]string{"-c", "qemu+unix:///system?socket=" + h.lv.Socket}, args...)...)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	disk, definition := filepath.Join(h.dir, "foreign.qcow2"), filepath.Join(h.dir, "foreign.xml")
	image, err := os.ReadFile(guest.Cache(t).QCOW2)
	if err != nil {
		t.Fatal(err)
	}
	write(t, disk, string(image))
	write(t, definition, fmt.Sprintf(foreign, disk))
	virsh("define", definition)
	cookie, err := os.ReadFile(filepath.Join(h.dir, "state", "root-cookie"))
	if err != nil {
		t.Fatal(err)
	}
	transfers := hypervisorv1.NewVmTransferServiceClient(h.cc)
	_, err = transfers.ImportLocalVm(ctx, &hypervisorv1.ImportLocalVmRequest{
		VerificationCookie: cookie, VolumeFilenames: []string{disk}, VmInfo: &hypervisorv1.VmInfo{
			Hostname: "taken", MemoryInMib: 160, MilliCpus: 1000, Volumes: []*hypervisorv1.Volume{{Format: hypervisorv1.VolumeFormat_VOLUME_FORMAT_QCOW2}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	port := h.serial(ctx, "taken")
	port.await("GUEST READY")
	port.ask("echo taken >/marker; sync; echo done")
	if _, err := transfers.CommitImportedVm(ctx, &hypervisorv1.CommitImportedVmRequest{Vm: "taken"}); err != nil {
		t.Fatal(err)
	}
	if out := virsh("list", "--all", "--name"); strings.Contains(out, "foreign") {
		t.Errorf("after the commit libvirt has %s", out)
	}
	h.must("vm", "stop", "taken")
	res, err := transfers.ExportLocalVm(ctx, &hypervisorv1.ExportLocalVmRequest{Vm: "taken", VerificationCookie: cookie, RestoreDefinition: true})
	if err != nil {
		t.Fatal(err)
	}
	if place := res.GetVmInfo().GetLocalVmInfo().GetVolumeLocations()[0].GetFilename(); !strings.Contains(virsh("dumpxml", "foreign"), place) {
		t.Errorf("the machine that was given back has not the disk %s", place)
	}
	virsh("start", "foreign")
	virsh("destroy", "foreign")
	virsh("undefine", "foreign")
	h.must("vm", "destroy", "taken")
}
