package libvirt_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
	"github.com/hyperplane-project/hyperplane/test/privatelibvirt"
)

// openFiles returns the files that the process of a machine has open.
func openFiles(t *testing.T, uuid string) string {
	t.Helper()
	pid, err := privatelibvirt.GuestPID(uuid)
	if err != nil {
		t.Fatal(err)
	}
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if name, err := os.Readlink(filepath.Join(dir, e.Name())); err == nil {
			names = append(names, name)
		}
	}
	return strings.Join(names, "\n")
}

// TestGuestDisksLive has a guest that writes all the time, while its disks come, grow, move, are redirected, merged, and go.
func TestGuestDisksLive(t *testing.T) {
	t.Parallel()
	_, d, _ := sharedLibvirt(t)
	dir := t.TempDir()
	m := newMachine(t, d, withDisk(t))
	id, ctx := m.spec.UUID, t.Context()
	m.start()
	p := m.serial()
	p.await("GUEST READY")

	added := hypervisor.Disk{File: filepath.Join(dir, "added.raw")}
	m.must(os.WriteFile(added.File, make([]byte, 8<<20), 0o600))
	m.must(d.AttachDisk(ctx, id, added))
	p.say("until [ -b /dev/vdb ]; do :; done; echo sectors=$(cat /sys/block/vdb/size)")
	p.await("sectors=16384")
	m.must(d.ResizeDisk(ctx, id, added.File, 16<<20))
	p.say("until grep -q 32768 /sys/block/vdb/size; do :; done; echo grown=$((1+1))")
	p.await("grown=2")
	if info, err := os.Stat(added.File); err != nil || info.Size() != 16<<20 {
		t.Errorf("the file has %d bytes: %v", info.Size(), err)
	}
	if err := d.ResizeDisk(ctx, id, added.File, 8<<20); !fault.Is(err, fault.InvalidArgument) {
		t.Errorf("shrink: %v", err)
	}
	// Each round writes its number over and over into one sector of its own.
	p.say("(i=0; while [ $i -lt 20000 ]; do i=$((i+1)); echo $i > /tmp/n; dd if=/tmp/n of=/dev/vdb bs=512 seek=$((i%1000)) conv=notrunc,fsync 2>/dev/null; done) & echo $! > /tmp/writer")
	p.say("until [ -s /tmp/n ]; do :; done; echo writing=$((1+1))")
	p.await("writing=2")

	moved := filepath.Join(dir, "moved.raw")
	var last, all uint64
	m.must(d.MoveDisk(ctx, id, added.File, moved, func(done, total uint64) { last, all = done, total }))
	if last != all || all == 0 {
		t.Errorf("progress ended at %d of %d", last, all)
	}
	root := m.spec.Disks[0].File
	overlays := map[string]string{root: filepath.Join(dir, "root.redirect"), moved: moved + ".redirect"}
	m.must(d.RedirectDisks(ctx, id, overlays))
	if err := d.RedirectDisks(ctx, id, overlays); !fault.Is(err, fault.FailedPrecondition) {
		t.Errorf("redirected twice: %v", err)
	}
	before, err := os.ReadFile(moved)
	m.must(err)
	p.say("a=$(cat /tmp/n); until [ $(cat /tmp/n) -gt $((a+50)) ]; do :; done; echo further=$((1+1))")
	p.await("further=2")
	after, err := os.ReadFile(moved)
	m.must(err)
	if string(before) != string(after) {
		t.Error("the file of a redirected disk changed")
	}
	m.must(d.MergeDisks(ctx, id, overlays))
	m.must(d.MergeDisks(ctx, id, overlays))
	for _, overlay := range overlays {
		if _, err := os.Stat(overlay); !os.IsNotExist(err) {
			t.Errorf("%s is left: %v", overlay, err)
		}
	}
	found, err := d.Get(ctx, id)
	m.must(err)
	if len(found.Spec.Disks) != 2 || found.Spec.Disks[0].File != root || found.Spec.Disks[1].File != moved {
		t.Errorf("disks %+v", found.Spec.Disks)
	}
	p.say("kill $(cat /tmp/writer); sleep 1; echo r''ounds=$(cat /tmp/n).")
	rounds := p.await("rounds=", ".")[0]
	if err := d.DetachDisk(ctx, id, root); !fault.Is(err, fault.FailedPrecondition) {
		t.Errorf("first disk: %v", err)
	}
	m.must(d.DetachDisk(ctx, id, moved))
	if files := openFiles(t, id); strings.Contains(files, dir+"/") {
		t.Errorf("open: %s", files)
	}
	expectRounds(t, moved, rounds)
	p.say("until [ ! -b /dev/vdb ]; do :; done; echo gone=$((1+1))")
	p.await("gone=2")
	movedRoot := filepath.Join(dir, "root.qcow2")
	m.must(d.MoveDisk(ctx, id, root, movedRoot, nil))

	// What was written to an overlay is in the disk after a crash and a merge.
	m.must(d.AttachDisk(ctx, id, hypervisor.Disk{File: moved}))
	overlays = map[string]string{movedRoot: movedRoot + ".redirect", moved: moved + ".redirect"}
	m.must(d.RedirectDisks(ctx, id, overlays))
	p.say("until [ -b /dev/vdb ]; do :; done; echo kept > /tmp/k; dd if=/tmp/k of=/dev/vdb bs=512 seek=5000 conv=notrunc,fsync; echo written=$((1+1))")
	p.await("written=2")
	signal(t, id, syscall.SIGKILL)
	m.awaitState(hypervisor.Crashed)
	m.must(d.MergeDisks(ctx, id, overlays))
	content, err := os.ReadFile(moved)
	if err != nil || !strings.HasPrefix(string(content[512*5000:]), "kept\n") {
		t.Errorf("what was written last is lost: %v", err)
	}
	found, err = d.Get(ctx, id)
	want := []hypervisor.Disk{{File: movedRoot, Format: hypervisor.DiskQCOW2}, {File: moved}}
	if err != nil || !slices.Equal(found.Spec.Disks, want) {
		t.Errorf("disks afterwards: %+v %v", found.Spec.Disks, err)
	}
	m.start()
	m.serial().await("GUEST READY")
}

// TestLeftCopy finds a copy that a driver has begun which was killed.
func TestLeftCopy(t *testing.T) {
	t.Parallel()
	inst, d, _ := sharedLibvirt(t)
	file := blankDisk(t)
	m := newMachine(t, d, func(s *hypervisor.Spec) { s.Disks = []hypervisor.Disk{{File: file}} })
	m.start()
	begin := func() {
		t.Helper()
		virsh(t, inst, "blockcopy", m.spec.UUID, "vda", "--dest", filepath.Join(t.TempDir(), "left.raw"), "--format", "raw", "--transient-job")
	}
	begin()
	for range 2 {
		m.must(d.AbandonMove(t.Context(), m.spec.UUID, file))
	}
	m.must(d.ResizeDisk(t.Context(), m.spec.UUID, file, 2<<20)) // QEMU refuses that while a job is under way
	begin()
	moved := filepath.Join(t.TempDir(), "moved.raw")
	m.must(d.MoveDisk(t.Context(), m.spec.UUID, file, moved, nil))
	found, err := d.Get(t.Context(), m.spec.UUID)
	if err != nil || found.Spec.Disks[0].File != moved {
		t.Errorf("afterwards: %+v, %v", found.Spec.Disks, err)
	}
	m.must(d.Kill(t.Context(), m.spec.UUID))
	m.must(d.AbandonMove(t.Context(), m.spec.UUID, moved))
}

// TestBoardWithoutGuest gives a machine that only has firmware as many disks as it has ports for. Firmware lets none of them go.
func TestBoardWithoutGuest(t *testing.T) {
	t.Parallel()
	_, d, _ := sharedLibvirt(t)
	m := newMachine(t, d, func(s *hypervisor.Spec) { s.Disks = []hypervisor.Disk{{File: blankDisk(t)}} })
	m.start()
	var last string
	for range 8 {
		last = blankDisk(t)
		m.must(d.AttachDisk(t.Context(), m.spec.UUID, hypervisor.Disk{File: last}))
	}
	if err := d.AttachDisk(t.Context(), m.spec.UUID, hypervisor.Disk{File: blankDisk(t)}); !fault.Is(err, fault.FailedPrecondition) {
		t.Errorf("one disk more: %v", err)
	}
	if err := d.DetachDisk(t.Context(), m.spec.UUID, last); !fault.Is(err, fault.FailedPrecondition) {
		t.Errorf("a disk that is not let go: %v", err)
	}
	found, err := d.Get(t.Context(), m.spec.UUID)
	if err != nil || len(found.Spec.Disks) != 9 || found.Spec.Disks[8].File != last || !strings.Contains(openFiles(t, m.spec.UUID), last) {
		t.Errorf("afterwards: %+v, %v", found.Spec.Disks, err)
	}
}

// expectRounds checks that the sectors of a file hold what the guest wrote in all its rounds.
func expectRounds(t *testing.T, file, line string) {
	t.Helper()
	var rounds int
	if _, err := fmt.Sscanf(line[strings.LastIndex(line, "rounds="):], "rounds=%d.", &rounds); err != nil {
		t.Fatalf("the guest said %q: %v", line, err)
	}
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for i := 1; i < min(rounds, 1000); i++ {
		if got := content[512*i : 512*i+8]; !strings.HasPrefix(string(got), fmt.Sprint(i)+"\n") {
			t.Errorf("of %d rounds, round %d left %q", rounds, i, got)
		}
	}
	t.Logf("%d rounds", rounds)
}
