package libvirt_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/uuid"

	"github.com/hyperplane-project/hyperplane/internal/procexec"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
	"github.com/hyperplane-project/hyperplane/server/hypervisor/libvirt"
	"github.com/hyperplane-project/hyperplane/test/privatelibvirt"
)

// bench is a libvirt of the benchmark's own.
func bench(b *testing.B) (*privatelibvirt.Instance, *libvirt.Driver) {
	b.Helper()
	inst := privatelibvirt.New(b, privatelibvirt.Options{})
	d, err := libvirt.Open(b.Context(), libvirt.Options{
		Socket: inst.Socket, RunDir: b.TempDir(), Accel: libvirt.AccelTCG, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = d.Close() })
	if _, err := d.Host(b.Context()); err != nil { // asks what is asked only once
		b.Fatal(err)
	}
	return inst, d
}

// BenchmarkDefineStart compares the driver with virsh, on the same machines: what the driver does in one process, virsh does in two.
// The kill and the removal of each machine are not counted.
func BenchmarkDefineStart(b *testing.B) {
	inst, d := bench(b)
	file := filepath.Join(b.TempDir(), "machine.xml")
	run := func(b *testing.B, args ...string) string {
		b.Helper()
		res, err := procexec.Runner{}.Run(b.Context(), procexec.Command{
			Program: "virsh", Args: append([]string{"-q", "-c", "qemu+unix:///system?socket=" + inst.Socket}, args...),
		})
		if err != nil {
			b.Fatal(err)
		}
		return string(res.Stdout)
	}
	machine := func() hypervisor.Spec {
		id := uuid.NewString()
		return hypervisor.Spec{UUID: id, Name: "bench-" + id[:8], CPUs: 1, MemoryBytes: 64 << 20}
	}
	driver := func(b *testing.B, s hypervisor.Spec) {
		b.Helper()
		if err := d.Define(b.Context(), s); err != nil {
			b.Fatal(err)
		}
		if err := d.Start(b.Context(), s.UUID); err != nil {
			b.Fatal(err)
		}
	}
	virsh := func(b *testing.B, s hypervisor.Spec) {
		b.Helper()
		run(b, "define", file)
		run(b, "start", s.UUID)
	}
	for name, way := range map[string]func(*testing.B, hypervisor.Spec){"driver": driver, "virsh": virsh} {
		b.Run(name, func(b *testing.B) {
			for range b.N {
				b.StopTimer()
				s := machine()
				if name == "virsh" {
					writeXML(b, d, s, run, file)
				}
				b.StartTimer()
				way(b, s)
				b.StopTimer()
				remove(b, d, s.UUID)
				b.StartTimer()
			}
		})
	}
}

// writeXML puts a machine's definition into a file, as the driver makes it.
func writeXML(b *testing.B, d *libvirt.Driver, s hypervisor.Spec, run func(*testing.B, ...string) string, file string) {
	b.Helper()
	if err := d.Define(b.Context(), s); err != nil {
		b.Fatal(err)
	}
	text := run(b, "dumpxml", "--inactive", s.UUID)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
	// The driver makes the folder for the sockets when it starts a machine; virsh must find it.
	if err := d.Start(b.Context(), s.UUID); err != nil {
		b.Fatal(err)
	}
	if err := d.Kill(b.Context(), s.UUID); err != nil {
		b.Fatal(err)
	}
	run(b, "undefine", s.UUID)
}

func remove(b *testing.B, d *libvirt.Driver, id string) {
	b.Helper()
	ctx := context.WithoutCancel(b.Context())
	if err := d.Kill(ctx, id); err != nil {
		b.Fatal(err)
	}
	if err := d.Undefine(ctx, id); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkList lists a thousand machines.
func BenchmarkList(b *testing.B) {
	_, d := bench(b)
	const count = 1000
	for range count {
		id := uuid.NewString()
		if err := d.Define(b.Context(), hypervisor.Spec{UUID: id, Name: "bench-" + id, CPUs: 1, MemoryBytes: 64 << 20}); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		if all, err := d.List(b.Context()); err != nil || len(all) != count {
			b.Fatal(len(all), err)
		}
	}
}
