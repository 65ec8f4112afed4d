package drivertest

import (
	"bytes"
	"context"
	"slices"
	"testing"
	"time"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/providers/driver"
)

// has reports whether the harness has a hook. Without one and without a reason the test fails.
func (h *Harness) has(t *testing.T, hook string, present bool) bool {
	t.Helper()
	if present {
		return true
	}
	reason := h.Without[hook]
	if reason == "" {
		t.Fatalf("the harness has no %s and gives no reason in Without", hook)
	}
	t.Logf("not for this platform: %s: %s", hook, reason)
	return false
}

// open opens a view of a machine that is closed at the end, as failed, unless the test did.
func (h *Harness) open(t *testing.T, m Machine, opts driver.OpenOptions) driver.View {
	t.Helper()
	if opts.Note == nil {
		opts.Note = t.Logf
	}
	v, err := h.Driver.Open(t.Context(), m.Path, opts)
	if err != nil {
		t.Fatalf("open %s: %v", m.Path, err)
	}
	ctx := context.WithoutCancel(t.Context())
	t.Cleanup(func() {
		if err := v.Close(ctx, false); err != nil {
			t.Errorf("close the view of %s: %v", m.Path, err)
		}
	})
	return v
}

// finish closes a view and checks that nothing is left.
func (h *Harness) finish(t *testing.T, v driver.View, complete bool) {
	t.Helper()
	if err := v.Close(t.Context(), complete); err != nil {
		t.Fatalf("close: %v", err)
	}
	h.nothingLeft(t)
}

func (h *Harness) nothingLeft(t *testing.T) {
	t.Helper()
	if left := h.Leftovers(); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
}

// read reads a disk to its end.
func (h *Harness) read(t *testing.T, v driver.View, disk int) ([]byte, error) {
	t.Helper()
	c, err := v.OpenDisk(t.Context(), v.VM().Disks[disk].ID)
	if err != nil {
		return nil, err
	}
	defer closeContent(t, c)
	return h.Decode(t, c)
}

func closeContent(t *testing.T, c driver.Content) {
	t.Helper()
	var err error
	if c.Stream != nil {
		err = c.Stream.Close()
	} else {
		err = c.Reader.Close()
	}
	if err != nil {
		t.Errorf("close the content: %v", err)
	}
}

// same fails unless a disk reads as want.
func (h *Harness) same(t *testing.T, v driver.View, disk int, want []byte) {
	t.Helper()
	got, err := h.read(t, v, disk)
	if err != nil {
		t.Fatalf("disk %d: %v", disk, err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("disk %d: %d bytes were read that are not the %d bytes of the source (first difference at %d)", disk, len(got), len(want), firstDifference(got, want))
	}
}

func firstDifference(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

func wantCode(t *testing.T, err error, want ...fault.Code) {
	t.Helper()
	if !slices.Contains(want, fault.CodeOf(err)) {
		t.Fatalf("error %v has code %d, want one of %v", err, fault.CodeOf(err), want)
	}
}

// pause lets time pass at the platform; nothing waits for an event here.
func pause(t *testing.T, d time.Duration) {
	t.Helper()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.Context().Done():
		t.Fatal(t.Context().Err())
	}
}
