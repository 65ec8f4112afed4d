package libvirt_test

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/procexec"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
	"github.com/hyperplane-project/hyperplane/test/privatelibvirt"
)

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
	m.must(d.Adjust(t.Context(), m.spec.UUID, hypervisor.Resources{CPUs: 1, MemoryBytes: m.spec.MemoryBytes, CPUPriority: 5}))
	info := virsh(t, inst, "schedinfo", m.spec.UUID)
	if got := strings.Contains(info, "cpu_shares     : 33") && !strings.Contains(info, "global_quota   : 25000"); got != enforced {
		t.Errorf("after a change:\n%s", info)
	}
}

// TestDefineIsTakenBack renames a machine and then finds that libvirt refuses the rest.
func TestDefineIsTakenBack(t *testing.T) {
	t.Parallel()
	_, d, _ := sharedLibvirt(t)
	m := newMachine(t, d, nil)
	bad := m.spec
	bad.Name, bad.CPUs = "renamed-"+bad.Name, 100_000
	if err := d.Define(t.Context(), bad); !fault.Is(err, fault.InvalidArgument) {
		t.Errorf("100000 CPUs: %v", err)
	}
	if found, err := d.Get(t.Context(), m.spec.UUID); err != nil || found.Name != m.spec.Name {
		t.Errorf("afterwards: %q, %v", found.Name, err)
	}
}

// TestNetworkIsTakenBack asks for a bridge whose name is that of another interface, which libvirt notices when it starts the network.
func TestNetworkIsTakenBack(t *testing.T) {
	t.Parallel()
	inst, d, _ := sharedLibvirt(t)
	n := hypervisor.Network{Name: "taken-back", Bridge: "lo", Gateway: netip.MustParsePrefix("10.98.7.1/24"), Isolated: true}
	list := func() string { return strings.Join(strings.Fields(virsh(t, inst, "net-list", "--all")), " ") }
	if err := d.EnsureNetwork(t.Context(), n); err == nil {
		t.Error("a network on lo")
	}
	if got := list(); strings.Contains(got, n.Name) {
		t.Errorf("left behind: %s", got)
	}
	good := n
	good.Bridge = "hpback"
	t.Cleanup(func() { _ = d.RemoveNetwork(context.WithoutCancel(t.Context()), n.Name) })
	if err := d.EnsureNetwork(t.Context(), good); err != nil {
		t.Fatal(err)
	}
	if err := d.EnsureNetwork(t.Context(), n); err == nil {
		t.Error("a network on lo")
	}
	const activeAndKept = " active yes yes" //nolint:dupword // as virsh says it: autostart and persistent
	if got := list(); !strings.Contains(got, n.Name+activeAndKept) {
		t.Errorf("the network as it was is not there: %s", got)
	}
}

// TestOtherAcceleration starts a machine that was defined when the host had KVM.
func TestOtherAcceleration(t *testing.T) {
	t.Parallel()
	inst := privatelibvirt.New(t, privatelibvirt.Options{})
	run := runDir(t)
	d := open(t, inst, run)
	m := newMachine(t, d, nil)
	// libvirt refuses to define such a machine here, but reads the one it finds when it starts.
	file := filepath.Join(inst.Dir, "etc", "qemu", m.spec.Name+".xml")
	text, err := os.ReadFile(file)
	m.must(err)
	m.must(inst.StopLibvirtd(t.Context()))
	changed := strings.Replace(string(text), "<domain type='qemu'>", "<domain type='kvm'>", 1)
	m.must(os.WriteFile(file, []byte(changed), 0o600)) //nolint:gosec // a file of the test's own libvirt
	m.must(inst.StartLibvirtd(t.Context()))
	if got := virsh(t, inst, "dumpxml", m.spec.UUID); !strings.Contains(got, "type='kvm'") {
		t.Fatalf("the machine is not one for KVM: %s", got)
	}
	m.start()
	if got := virsh(t, inst, "dumpxml", m.spec.UUID); !strings.Contains(got, "type='qemu'") {
		t.Errorf("the machine runs otherwise: %s", got)
	}
}
