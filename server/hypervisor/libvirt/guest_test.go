package libvirt_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/procexec"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
	"github.com/hyperplane-project/hyperplane/server/hypervisor/libvirt"
	"github.com/hyperplane-project/hyperplane/test/guest"
	"github.com/hyperplane-project/hyperplane/test/privatelibvirt"
)

const patience = 2 * time.Minute

// machine is a machine of one test, which is removed when the test ends.
type machine struct {
	*testing.T
	driver *libvirt.Driver
	spec   hypervisor.Spec
}

func newMachine(t *testing.T, d *libvirt.Driver, change func(*hypervisor.Spec)) *machine {
	t.Helper()
	id := uuid.NewString()
	m := &machine{T: t, driver: d, spec: hypervisor.Spec{UUID: id, Name: "m-" + id[:8], CPUs: 1, MemoryBytes: 32 << 20}}
	if change != nil {
		change(&m.spec)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
		defer cancel()
		if err := d.Kill(ctx, id); err != nil && !gone(err) {
			t.Error(err)
		}
		if err := d.Undefine(ctx, id); err != nil && !gone(err) {
			t.Error(err)
		}
	})
	m.must(d.Define(t.Context(), m.spec))
	return m
}

func (m *machine) must(err error) {
	m.Helper()
	if err != nil {
		m.Fatal(err)
	}
}

func (m *machine) start() {
	m.Helper()
	m.must(m.driver.Start(m.Context(), m.spec.UUID))
}

// awaitState waits until the machine is in a state.
func (m *machine) awaitState(want hypervisor.State) {
	m.Helper()
	ctx, cancel := context.WithTimeout(m.Context(), patience)
	defer cancel()
	events, err := m.driver.Watch(ctx)
	m.must(err)
	for ev := range events {
		if ev.UUID == m.spec.UUID && ev.State == want {
			return
		}
	}
	m.Fatalf("the machine is not %s in time", want)
}

// port is the machine's serial port, with what it said since the last await.
type port struct {
	*machine
	conn io.ReadWriteCloser
	text []byte
}

func (m *machine) serial() *port {
	m.Helper()
	conn, err := m.driver.OpenSerial(m.Context(), m.spec.UUID, false)
	m.must(err)
	m.Cleanup(func() { _ = conn.Close() })
	return &port{machine: m, conn: conn}
}

// await reads until lines with all the texts have come, in any order, and returns them in the order of the texts.
func (p *port) await(texts ...string) []string {
	p.Helper()
	timer := time.AfterFunc(patience, func() { _ = p.conn.Close() })
	defer timer.Stop()
	b := make([]byte, 4096)
	for {
		if lines := p.lines(texts); lines != nil {
			return lines
		}
		n, err := p.conn.Read(b)
		if err != nil {
			p.Fatalf("waiting for %q: %v; the port said:\n%s", texts, err, p.text)
		}
		p.text = append(p.text, b[:n]...)
	}
}

// lines returns the lines with the texts and forgets what was read, or nil if one is missing.
func (p *port) lines(texts []string) []string {
	found := make([]string, len(texts))
	for line := range strings.Lines(string(p.text)) {
		for i, text := range texts {
			if strings.HasSuffix(line, "\n") && strings.Contains(line, text) {
				found[i] = strings.TrimSpace(line)
			}
		}
	}
	if slices.Contains(found, "") {
		return nil
	}
	p.text = nil
	return found
}

func (p *port) say(line string) {
	p.Helper()
	_, err := io.WriteString(p.conn, line+"\n")
	p.must(err)
}

func withDisk(t *testing.T) func(*hypervisor.Spec) {
	t.Helper()
	return func(s *hypervisor.Spec) {
		s.MemoryBytes = 128 << 20
		s.Disks = []hypervisor.Disk{{File: guest.Image(t), Format: hypervisor.DiskQCOW2}}
	}
}

func blankDisk(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "blank.raw")
	if err := os.WriteFile(file, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestGuestBoots(t *testing.T) {
	t.Parallel()
	_, d, _ := sharedLibvirt(t)
	for name, test := range map[string]struct {
		change func(*hypervisor.Spec)
		want   string
	}{
		"BIOS on pc": {func(s *hypervisor.Spec) {
			s.Machine, s.Disks = hypervisor.MachinePC, append(s.Disks, hypervisor.Disk{File: blankDisk(t), Bus: hypervisor.BusIDE})
		}, "firmware=bios cpus=1 "},
		"UEFI from SCSI": {func(s *hypervisor.Spec) {
			s.Firmware, s.MemoryBytes, s.Disks[0].Bus = hypervisor.FirmwareUEFI, 256<<20, hypervisor.BusSCSI
		}, "firmware=uefi cpus=1 "},
		"kernel without a disk": {func(s *hypervisor.Spec) {
			files := guest.Cache(t)
			s.Disks, s.Kernel, s.Initrd, s.CommandLine = nil, files.Kernel, files.Initrd, guest.CommandLine
		}, "firmware=bios cpus=1 "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t, d, func(s *hypervisor.Spec) {
				withDisk(t)(s)
				test.change(s)
			})
			m.start()
			p := m.serial()
			if line := p.await("GUEST BOOT", "GUEST READY")[0]; !strings.Contains(line, "marker="+guest.Marker+" "+test.want) {
				t.Errorf("the guest said %q, without %q", line, test.want)
			}
			p.say("echo hi")
			p.await("ECHO:hi")
			m.must(d.Shutdown(t.Context(), m.spec.UUID))
			p.await("GUEST POWEROFF")
			m.awaitState(hypervisor.Off)
		})
	}
}

// TestGuestOnTheNetwork dials a guest with two queue pairs at the address it was leased, across a restart of libvirtd.
func TestGuestOnTheNetwork(t *testing.T) {
	t.Parallel()
	inst := privatelibvirt.New(t, privatelibvirt.Options{})
	d := open(t, inst, runDir(t))
	network := hypervisor.Network{
		Name: "net", Bridge: "hpnet", Gateway: netip.MustParsePrefix("10.99.0.1/24"), Domain: "example.org",
		DNS: []netip.Addr{netip.MustParseAddr("192.0.2.53")},
	}
	lease := hypervisor.Lease{MAC: "52:54:00:12:34:56", Address: netip.MustParseAddr("10.99.0.77"), Hostname: "leased"}
	m := newMachine(t, d, func(s *hypervisor.Spec) {
		withDisk(t)(s)
		s.CPUs, s.NICs = 2, []hypervisor.NIC{{MAC: lease.MAC, Network: network.Name, Queues: 2}}
	})
	m.must(d.EnsureNetwork(t.Context(), network))
	m.must(d.SetLeases(t.Context(), network.Name, []hypervisor.Lease{lease}))
	m.start()
	p := m.serial()
	lines := p.await("GUEST BOOT", "GUEST IP", "GUEST READY")
	if !strings.Contains(lines[0], " cpus=2 ") {
		t.Errorf("the guest said %q, without two CPUs", lines[0])
	}
	for _, want := range []string{" 10.99.0.77/24 ", "mac=" + lease.MAC, "router=10.99.0.1", "dns=192.0.2.53", "name=leased"} {
		if !strings.Contains(lines[1], want) {
			t.Errorf("the guest said %q, without %q", lines[1], want)
		}
	}
	expectTCPEcho(t, inst, lease.Address)

	m.must(inst.RestartLibvirtd(t.Context()))
	p.say("echo still connected") // QEMU serves the port, not libvirtd
	p.await("ECHO:still connected")
	expectTCPEcho(t, inst, lease.Address)
	m.awaitState(hypervisor.Running)
	p.say("ls /sys/class/net/eth0/queues")
	p.await("rx-1", "tx-1")
	p.say("poweroff")
	m.awaitState(hypervisor.Off)
}

func expectTCPEcho(t *testing.T, inst *privatelibvirt.Instance, addr netip.Addr) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err := inst.InNetwork(func() error {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", netip.AddrPortFrom(addr, 7).String())
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }()
		if _, err := io.WriteString(conn, "ping"); err != nil {
			return err
		}
		b := make([]byte, 4)
		if _, err := io.ReadFull(conn, b); err != nil || string(b) != "ping" {
			return fmt.Errorf("got %q: %w", b, err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// TestEndsByOthers tells the machine's end by our wish from others'.
func TestEndsByOthers(t *testing.T) {
	t.Parallel()
	inst, d, _ := sharedLibvirt(t)
	for name, end := range map[string]func(*testing.T, string){
		"SIGKILL":       func(t *testing.T, id string) { t.Helper(); signal(t, id, syscall.SIGKILL) },
		"SIGTERM":       func(t *testing.T, id string) { t.Helper(); signal(t, id, syscall.SIGTERM) },
		"virsh destroy": func(t *testing.T, id string) { t.Helper(); virsh(t, inst, "destroy", id) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t, d, nil)
			m.start()
			end(t, m.spec.UUID)
			m.awaitState(hypervisor.Crashed)
			m.start()
			m.must(d.Kill(t.Context(), m.spec.UUID))
			m.awaitState(hypervisor.Off)
		})
	}
}

func virsh(t *testing.T, inst *privatelibvirt.Instance, args ...string) string {
	t.Helper()
	res, err := procexec.Runner{}.Run(t.Context(), procexec.Command{
		Program: "virsh", Args: append([]string{"-q", "-c", "qemu+unix:///system?socket=" + inst.Socket}, args...),
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(res.Stdout)
}

// TestForeignMachine lists and controls a machine that somebody else made.
func TestForeignMachine(t *testing.T) {
	t.Parallel()
	inst, d, _ := sharedLibvirt(t)
	id := uuid.NewString()
	file := filepath.Join(t.TempDir(), "foreign.xml")
	text := `<domain type='qemu'><name>foreign-` + id[:8] + `</name><uuid>` + id + `</uuid><memory unit='MiB'>32</memory><vcpu>1</vcpu>` +
		`<os><type arch='x86_64' machine='pc'>hvm</type></os><devices><serial type='pty'/><graphics type='vnc' autoport='yes'/></devices></domain>`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	virsh(t, inst, "create", file) // transient: it is gone when it ends
	events, err := d.Watch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, err = d.OpenSerial(t.Context(), id, false)
	if !fault.Is(err, fault.Unimplemented) {
		t.Errorf("serial: %v", err)
	}
	if _, err := d.OpenDisplay(t.Context(), id); !fault.Is(err, fault.Unimplemented) {
		t.Errorf("display: %v", err)
	}
	found, err := d.Get(t.Context(), id)
	if err != nil || found.State != hypervisor.Running || found.Spec.Machine != hypervisor.MachinePC || found.Spec.MemoryBytes != 32<<20 {
		t.Errorf("got %+v, %v", found, err)
	}
	if err := d.Kill(t.Context(), id); err != nil && !fault.Is(err, fault.NotFound) {
		t.Error(err)
	}
	for ev := range events {
		if ev.UUID == id && ev.Gone {
			return
		}
	}
}

// TestUEFIVariables keeps them when the machine is renamed and changed, and removes them with it.
func TestUEFIVariables(t *testing.T) {
	t.Parallel()
	inst, d, _ := sharedLibvirt(t)
	m := newMachine(t, d, func(s *hypervisor.Spec) { s.Firmware = hypervisor.FirmwareUEFI })
	file := filepath.Join(inst.Dir, "lib", "qemu", "nvram", m.spec.UUID+"_VARS.fd")
	m.start()
	m.must(d.Kill(t.Context(), m.spec.UUID))
	before, err := os.Stat(file)
	m.must(err)
	m.spec.Name, m.spec.Machine, m.spec.CPUs = "renamed-"+m.spec.Name, hypervisor.MachinePC, 2
	m.must(d.Define(t.Context(), m.spec))
	m.start()
	m.must(d.Kill(t.Context(), m.spec.UUID))
	after, err := os.Stat(file)
	m.must(err)
	if !os.SameFile(before, after) {
		t.Error("the variables were made anew")
	}
	m.must(d.Undefine(t.Context(), m.spec.UUID))
	if _, err := os.Stat(file); !os.IsNotExist(err) {
		t.Errorf("the variables are left: %v", err)
	}
}

// TestHungLibvirtd stops libvirtd in its tracks: calls obey their context, and work again afterwards.
func TestHungLibvirtd(t *testing.T) {
	t.Parallel()
	inst := privatelibvirt.New(t, privatelibvirt.Options{})
	d := open(t, inst, runDir(t))
	m := newMachine(t, d, nil)
	pid, err := inst.LibvirtdPID()
	m.must(err)
	m.must(syscall.Kill(pid, syscall.SIGSTOP))
	t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGCONT) })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	for name, call := range map[string]func() error{
		"get":   func() error { _, err := d.Get(ctx, m.spec.UUID); return err },
		"list":  func() error { _, err := d.List(ctx); return err },
		"start": func() error { return d.Start(ctx, m.spec.UUID) },
		"net":   func() error { return d.RemoveNetwork(ctx, "nowhere") },
	} {
		if err := call(); !fault.Is(err, fault.DeadlineExceeded) {
			t.Errorf("%s: %v", name, err)
		}
	}
	m.must(syscall.Kill(pid, syscall.SIGCONT))
	found, err := d.Get(t.Context(), m.spec.UUID)
	if err != nil || found.State != hypervisor.Off {
		t.Errorf("afterwards: %s, %v", found.State, err)
	}
}

// TestCPULimit runs a libvirt that may use the cpu controller.
func TestCPULimit(t *testing.T) {
	t.Parallel()
	inst := privatelibvirt.New(t, privatelibvirt.Options{CgroupControllers: []string{"cpu", "cpuacct"}})
	d := open(t, inst, runDir(t))
	host, err := d.Host(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	m := newMachine(t, d, func(s *hypervisor.Spec) { s.CPUMillis = 250 })
	m.start()
	enforced := strings.Contains(virsh(t, inst, "schedinfo", m.spec.UUID), "global_quota   : 25000")
	if enforced != host.LimitsCPU || host.LimitsCPU == strings.Contains(host.Why, "CPU limits are not enforced") {
		t.Errorf("host says %v (%s), the scheduler %v", host.LimitsCPU, host.Why, enforced)
	}
	t.Logf("CPU limits enforced: %v", enforced)
}

// gone says whether a cleanup failed because the test has removed the machine or closed the driver.
func gone(err error) bool { return fault.Is(err, fault.NotFound) || fault.Is(err, fault.Unavailable) }
