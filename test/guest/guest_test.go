package guest_test

import (
	"os"
	"strconv"
	"testing"

	"github.com/hyperplane-project/hyperplane/internal/procexec"
	"github.com/hyperplane-project/hyperplane/test/guest"
)

// TestBuild looks into the disk; that it boots is tested with the libvirt driver.
func TestBuild(t *testing.T) {
	t.Parallel()
	files, err := guest.Build(t.Context(), t.TempDir(), "some marker")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{files.QCOW2, files.Raw, files.Kernel, files.Initrd} {
		if info, err := os.Stat(file); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v", file, err)
		}
	}
	run := func(program string, args ...string) string {
		t.Helper()
		res, err := procexec.Runner{}.Run(t.Context(), procexec.Command{Program: program, Args: args})
		if err != nil {
			t.Fatal(err)
		}
		return string(res.Stdout)
	}
	run("qemu-img", "compare", files.QCOW2, files.Raw)

	const rootStart, sector = 2048 + 48*2048, 512
	root := files.Raw + "?offset=" + strconv.Itoa(rootStart*sector)
	if got := run("/usr/sbin/debugfs", "-R", "cat /etc/hyperplane-marker", root); got != "some marker\n" {
		t.Errorf("marker %q", got)
	}
}

func TestImageIsACopy(t *testing.T) {
	t.Parallel()
	first, second := guest.Image(t), guest.Image(t)
	if err := os.Truncate(first, 0); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(second); err != nil || info.Size() == 0 {
		t.Errorf("the second copy changed with the first: %v, %v", info, err)
	}
}
