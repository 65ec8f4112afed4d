package progress_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hyperplane-project/hyperplane/clients/cli/progress"
)

// clock moves a second with each look.
func clock() func() time.Time {
	now := time.Unix(0, 0)
	return func() time.Time {
		now = now.Add(time.Second)
		return now
	}
}

func TestPlainLinesWithRateAndRemainingTime(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	d := progress.New(&out, progress.Auto, clock())
	for i := range uint64(7) {
		d.Update(progress.State{Phase: "copying", Done: i * 100 << 20, Total: 1000 << 20})
	}
	d.Close()
	want := []string{
		"copying   0% of 1000 MiB",
		"copying  20% of 1000 MiB, 100 MiB/s, 8s left",
		"copying  40% of 1000 MiB, 100 MiB/s, 6s left",
		"copying  60% of 1000 MiB, 100 MiB/s, 4s left",
	}
	if diff := cmp.Diff(want, strings.Split(strings.TrimSpace(out.String()), "\n")); diff != "" {
		t.Error(diff)
	}
}

func TestBarEndsItsLine(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	d := progress.New(&out, progress.Bar, clock())
	d.Update(progress.State{Phase: "copying", Done: 50, Total: 100, Rate: 10, Remaining: 5 * time.Second})
	d.Close()
	want := "\r\x1b[Kcopying [==============              ]  50% of 100 B, 10 B/s, 5s left\n"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
}

func TestNoneSaysNothing(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	d := progress.New(&out, progress.None, clock())
	d.Update(progress.State{Phase: "copying", Done: 50, Total: 100})
	d.Close()
	if out.Len() > 0 {
		t.Errorf("said %q", out.String())
	}
	if _, err := progress.ParseMode("loud"); err == nil {
		t.Error("mode loud was accepted")
	}
}
