package e2e

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/hyperplane-project/hyperplane/test/proc"
)

// TestKillInTheMiddleOfAConversion kills the daemon when a conversion has come some way: started again, it goes on from there. A conversion that is
// cancelled leaves nothing.
func TestKillInTheMiddleOfAConversion(t *testing.T) {
	t.Parallel()
	d := startDaemon(t, nil, "--hypervisor", "fake")
	dir := t.TempDir()
	source, target := filepath.Join(dir, "big.raw"), filepath.Join(dir, "out", "big.qcow2")
	const size = 700 << 20
	makeNoise(t, source, size)
	if err := os.Mkdir(filepath.Dir(target), 0o700); err != nil {
		t.Fatal(err)
	}
	convert := func() job {
		go func() {
			_, _ = d.ctl("image", "convert", source, target, "--to", "qcow2", "--compression", "zlib", "--level", "9") // ends with the daemon
		}()
		return eventually(t, func() (job, bool) {
			jobs := parse[struct{ Jobs []job }](t, d.must("job", "list", "-o", "json"))
			if len(jobs.Jobs) == 0 || ended(jobs.Jobs[0]) {
				return job{}, false
			}
			return jobs.Jobs[0], true
		})
	}
	j := convert()
	eventually(t, func() (int64, bool) {
		st, err := os.Stat(filepath.Join(filepath.Dir(target), ".big.qcow2.partial.checkpoint"))
		if err != nil {
			return 0, false
		}
		return st.Size(), st.Size() > 1000 // some records were made to last
	})
	d.Kill()
	d.start()
	j = d.wait(j.ID, ended)
	if j.State != "JOB_STATE_COMPLETED" || j.Resumes != 1 {
		t.Fatalf("the job ended as %s after %d resumes: %+v", j.State, j.Resumes, j.Error)
	}
	if log := d.must("job", "logs", j.ID); !strings.Contains(log, "went on at byte ") {
		t.Errorf("the conversion began anew:\n%s", log)
	}
	if _, err := proc.Run(t.Context(), nil, "qemu-img", "compare", "-f", "raw", "-F", "qcow2", source, target); err != nil {
		t.Error(err)
	}
	if err := os.Remove(target); err != nil {
		t.Fatal(err)
	}
	j = convert()
	eventually(t, func() (int64, bool) {
		j := parse[job](t, d.must("job", "get", j.ID, "-o", "json"))
		n, _ := strconv.ParseInt(j.Progress.BytesDone, 10, 64)
		return n, n > 50<<20
	})
	d.must("job", "cancel", j.ID)
	d.wait(j.ID, ended)
	if left, err := os.ReadDir(filepath.Dir(target)); err != nil || len(left) != 0 {
		t.Errorf("a cancelled conversion leaves %v: %v", left, err)
	}
}
