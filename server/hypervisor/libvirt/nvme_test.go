package libvirt_test

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

// TestGuestNVMeLive boots a guest from an NVMe disk and has it write to another one, which is moved, redirected, merged, copied, counted and taken away meanwhile.
func TestGuestNVMeLive(t *testing.T) {
	t.Parallel()
	_, d, _ := sharedLibvirt(t)
	dir := t.TempDir()
	second := filepath.Join(dir, "second.raw")
	content := make([]byte, 8<<20)
	copy(content[7<<20:], "from the host\n")
	if err := os.WriteFile(second, content, 0o600); err != nil {
		t.Fatal(err)
	}
	m := newMachine(t, d, func(s *hypervisor.Spec) {
		withDisk(t)(s)
		s.Disks[0].Bus = hypervisor.BusNVMe
		s.Disks = append(s.Disks, hypervisor.Disk{File: second, Bus: hypervisor.BusNVMe})
	})
	id, ctx, root := m.spec.UUID, t.Context(), m.spec.Disks[0].File
	m.start()
	p := m.serial()
	p.await("GUEST READY")
	p.say("true; echo si''ze=$(cat /sys/block/nvme1n1/size) content=$(dd if=/dev/nvme1n1 bs=1M skip=7 2>/dev/null | head -n 1) serial=$(cat /sys/class/nvme/nvme1/serial)")
	p.await("size=16384 content=from the host serial=" + id[:8] + "-1")
	p.say("(i=0; while [ $i -lt 20000 ]; do i=$((i+1)); echo $i > /tmp/n; dd if=/tmp/n of=/dev/nvme1n1 bs=512 seek=$((i%1000)) conv=notrunc,fsync 2>/dev/null; done) & echo $! > /tmp/writer")
	p.say("until [ -s /tmp/n ]; do :; done; echo writing=$((1+1))")
	p.await("writing=2")

	moved := filepath.Join(dir, "moved.raw")
	m.must(d.MoveDisk(ctx, id, second, moved, nil))
	overlays := map[string]string{root: filepath.Join(dir, "root.redirect"), moved: moved + ".redirect"}
	m.must(d.RedirectDisks(ctx, id, overlays))
	before, err := os.ReadFile(moved)
	m.must(err)
	p.say("a=$(cat /tmp/n); until [ $(cat /tmp/n) -gt $((a+50)) ]; do :; done; echo further=$((1+1))")
	p.await("further=2")
	after, err := os.ReadFile(moved)
	if err != nil || !bytes.Equal(before, after) {
		t.Errorf("the file of a redirected disk changed: %v", err)
	}
	m.must(d.MergeDisks(ctx, id, overlays))
	copied := filepath.Join(dir, "copy.raw")
	m.must(d.CopyDisks(ctx, id, hypervisor.DiskCopies{Disks: []hypervisor.DiskCopy{{File: moved, To: copied}}}))
	figures, err := d.MeasureDomains(ctx, id, hypervisor.StatsDisks)
	if err != nil || len(figures) != 1 || len(figures[0].Disks) != 2 || figures[0].Disks[0].ReadBytes == 0 || figures[0].Disks[1].WriteRequests < 50 {
		t.Errorf("figures: %+v, %v", figures, err)
	}
	p.say("kill $(cat /tmp/writer); sleep 1; echo r''ounds=$(cat /tmp/n).")
	rounds := p.await("rounds=", ".")[0]

	m.must(d.DetachDisk(ctx, id, moved))
	if files := openFiles(t, id); strings.Contains(files, dir+"/") {
		t.Errorf("open: %s", files)
	}
	expectRounds(t, moved, rounds)
	p.say("until [ ! -b /dev/nvme1n1 ]; do :; done; echo gone=$((1+1))")
	p.await("gone=2")
	// A virtio disk that comes in its place is one, also at the next start.
	m.must(d.AttachDisk(ctx, id, hypervisor.Disk{File: moved}))
	overlays = map[string]string{root: root + ".redirect", moved: moved + ".redirect"}
	m.must(d.RedirectDisks(ctx, id, overlays))
	p.say("until [ -b /dev/vda ]; do :; done; echo kept > /tmp/k; dd if=/tmp/k of=/dev/vda bs=512 seek=5000 conv=notrunc,fsync; echo written=$((1+1))")
	p.await("written=2")
	signal(t, id, syscall.SIGKILL)
	m.awaitState(hypervisor.Crashed)
	m.must(d.MergeDisks(ctx, id, overlays))
	m.start()
	p = m.serial()
	p.await("GUEST READY")
	p.say("true; echo di''sks=$(cd /sys/block; echo nvme* vd*) $(dd if=/dev/vda bs=512 skip=5000 count=1 2>/dev/null | head -n 1)")
	p.await("disks=nvme0n1 vda kept")
	found, err := d.Get(ctx, id)
	want := []hypervisor.Disk{{File: root, Format: hypervisor.DiskQCOW2, Bus: hypervisor.BusNVMe}, {File: moved}}
	if err != nil || !slices.Equal(found.Spec.Disks, want) {
		t.Errorf("disks afterwards: %+v %v", found.Spec.Disks, err)
	}
	if _, err := d.Depart(ctx, id); !fault.Is(err, fault.FailedPrecondition) || !strings.Contains(err.Error(), root) {
		t.Errorf("depart: %v", err)
	}
}
