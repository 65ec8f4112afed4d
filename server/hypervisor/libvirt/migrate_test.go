package libvirt_test

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/hyperplane-project/hyperplane/server/hypervisor"
	"github.com/hyperplane-project/hyperplane/test/privatelibvirt"
)

// TestChangedGuestMoves moves a guest with UEFI whose devices are no longer those that it was started with: it has grown, and disks have come and gone.
func TestChangedGuestMoves(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	_, d, _ := sharedLibvirt(t)
	there := open(t, privatelibvirt.New(t, privatelibvirt.Options{}), runDir(t))
	m := newMachine(t, d, func(s *hypervisor.Spec) {
		withDisk(t)(s)
		s.Firmware, s.MemoryBytes, s.MaxCPUs, s.MaxMemoryBytes = hypervisor.FirmwareUEFI, 256<<20, 2, 1<<30
		s.Watchdog = hypervisor.Watchdog{Model: "i6300esb", Action: "none"}
	})
	m.start()
	p := m.serial()
	p.await("GUEST READY")
	for _, bus := range []hypervisor.DiskBus{hypervisor.BusVirtio, hypervisor.BusVirtio, hypervisor.BusSCSI} {
		disk := hypervisor.Disk{File: blankDisk(t), Bus: bus}
		m.must(d.AttachDisk(ctx, m.spec.UUID, disk))
		m.spec.Disks = append(m.spec.Disks, disk)
	}
	m.must(d.DetachDisk(ctx, m.spec.UUID, m.spec.Disks[1].File))
	m.spec.Disks = append(m.spec.Disks[:1], m.spec.Disks[2:]...)
	grown := m.spec.Resources()
	grown.CPUs, grown.MemoryBytes = 2, grown.MemoryBytes+2*hypervisor.MemoryStep
	m.must(d.Adjust(ctx, m.spec.UUID, grown))
	m.must(os.WriteFile(m.spec.Disks[1].File, []byte(strings.Repeat("x", 1<<20)), 0o600)) // the guest has not read it

	departure, err := d.Depart(ctx, m.spec.UUID)
	m.must(err)
	defer departure.Close()
	spec := m.spec.With(grown)
	spec.Disks = nil
	for i, disk := range m.spec.Disks {
		disk.File = filepath.Join(t.TempDir(), "disk")
		m.must(emptyDisk(ctx, disk, departure.Offer().DiskSizes[i]))
		spec.Disks = append(spec.Disks, disk)
	}
	arrival, err := there.Arrive(ctx, spec, departure.Offer())
	m.must(err)
	defer arrival.Close()
	connect := func(ctx context.Context, s hypervisor.Stream, conn io.ReadWriteCloser) {
		far, err := arrival.Connect(ctx, s)
		if err != nil {
			return
		}
		defer far.Close()
		var back sync.WaitGroup
		back.Go(func() { _, _ = io.Copy(conn, far); _ = conn.Close() })
		_, _ = io.Copy(far, conn)
		_ = far.(interface{ CloseWrite() error }).CloseWrite()
		back.Wait()
	}
	result, err := departure.Perform(ctx, arrival.Answer(), connect, func(hypervisor.MigrationProgress) {})
	m.must(err)
	figures, err := arrival.Finish(ctx, result)
	m.must(err)
	m.must(departure.Finish(ctx, true))
	if figures.Downtime == 0 || figures.Total < figures.Downtime {
		t.Errorf("figures: %+v", figures)
	}
	moved := &machine{T: t, driver: there, spec: spec}
	p = moved.serial()
	p.say("until grep -q 0-1 /sys/devices/system/cpu/present; do :; done; echo processors=$((1+1))")
	p.await("processors=2")
	p.say("until [ $(ls /sys/devices/system/memory | grep -c memory[0-9]) = 4 ]; do :; done; echo blocks=$((2+2))")
	p.await("blocks=4")
	if content, err := os.ReadFile(spec.Disks[1].File); err != nil || string(content) != strings.Repeat("x", 1<<20) {
		t.Errorf("the disk has %d bytes, or other ones: %v", len(content), err)
	}
	more := hypervisor.Disk{File: blankDisk(t)}
	m.must(there.AttachDisk(ctx, spec.UUID, more))
	m.must(there.DetachDisk(ctx, spec.UUID, spec.Disks[1].File))
	m.must(there.Kill(ctx, spec.UUID))
	m.must(there.Start(ctx, spec.UUID))
	p = moved.serial()
	if line := p.await("GUEST BOOT")[0]; !strings.Contains(line, "firmware=uefi cpus=2 ") {
		t.Errorf("started anew there, the guest said %q", line)
	}
	m.must(there.Kill(ctx, spec.UUID))
	m.must(there.Undefine(ctx, spec.UUID))
}
