package drivertest

import (
	"context"
	"testing"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/providers/driver"
)

// restart replaces the driver as a restart of the process would: nothing of the old one is closed.
func (h *Harness) restart(t *testing.T) {
	t.Helper()
	d, err := h.Reconnect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	old, ctx := h.Driver, context.WithoutCancel(t.Context())
	t.Cleanup(func() {
		if err := old.Close(ctx); err != nil {
			t.Errorf("close the driver of before: %v", err)
		}
	})
	h.Driver = d
}

// testResumeSnapshot crashes with a snapshot and finds it again, with the content of the time when it was made.
func testResumeSnapshot(t *testing.T, h *Harness) {
	t.Helper()
	crashed := h.open(t, h.On, driver.OpenOptions{})
	if err := h.GuestWrite(h.On.Name, 0, []byte("after the snapshot"), 0); err != nil {
		t.Fatal(err)
	}
	h.restart(t)
	v := h.open(t, h.On, driver.OpenOptions{Resume: crashed.Token()})
	if !v.Resumed() {
		t.Fatal("the snapshot is there, but the view does not continue it")
	}
	if string(v.Token()) != string(crashed.Token()) {
		t.Errorf("the token is %q, was %q", v.Token(), crashed.Token())
	}
	h.same(t, v, 0, h.On.Disks[0])
	if err := v.Close(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if err := crashed.Close(t.Context(), false); err != nil {
		t.Errorf("close of the view whose snapshot is gone: %v", err)
	}
	h.nothingLeft(t)
}

// testDetach ends a view in good order but leaves what the token names.
func testDetach(t *testing.T, h *Harness) {
	t.Helper()
	for _, m := range []Machine{h.On, h.Off} {
		before := h.open(t, m, driver.OpenOptions{})
		token := before.Token()
		for range 2 {
			if err := before.Detach(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if err := before.Close(t.Context(), false); err != nil {
			t.Fatal(err)
		}
		h.restart(t)
		v := h.open(t, m, driver.OpenOptions{Resume: token})
		if !v.Resumed() {
			t.Errorf("%s: the view does not continue what was detached", m.Name)
		}
		h.same(t, v, 0, m.Disks[0])
		h.finish(t, v, true)
	}
}

func testResumeOff(t *testing.T, h *Harness) {
	t.Helper()
	before := h.open(t, h.Off, driver.OpenOptions{})
	token := before.Token()
	h.finish(t, before, false)
	h.restart(t)
	v := h.open(t, h.Off, driver.OpenOptions{Resume: token})
	if !v.Resumed() {
		t.Error("the VM is off and unchanged, but the view does not continue")
	}
	h.same(t, v, 0, h.Off.Disks[0])
	h.finish(t, v, true)
}

// testResumeChanged starts and stops the VM in between: what was read before is not what is there now.
func testResumeChanged(t *testing.T, h *Harness) {
	t.Helper()
	before := h.open(t, h.Off, driver.OpenOptions{})
	token := before.Token()
	h.finish(t, before, false)
	for _, on := range []bool{true, false} {
		if err := h.Power(t.Context(), h.Off.Name, on); err != nil {
			t.Fatal(err)
		}
	}
	v := h.open(t, h.Off, driver.OpenOptions{Resume: token})
	if v.Resumed() {
		t.Error("the VM ran in between, but the view continues")
	}
	h.same(t, v, 0, h.Off.Disks[0])
	h.finish(t, v, true)

	// A token of a VM that runs by now leads to a snapshot.
	if err := h.Power(t.Context(), h.Off.Name, true); err != nil {
		t.Fatal(err)
	}
	v = h.open(t, h.Off, driver.OpenOptions{Resume: token})
	if v.Resumed() {
		t.Error("the VM runs, but the view continues what was read while it was off")
	}
	h.finish(t, v, false)
}

func testResumeDamaged(t *testing.T, h *Harness) {
	t.Helper()
	for _, token := range []string{"{", "{}", "null", `{"vm":7}`} {
		_, err := h.Driver.Open(t.Context(), h.Off.Path, driver.OpenOptions{Resume: []byte(token)})
		wantCode(t, err, fault.InvalidArgument)
	}
	h.nothingLeft(t)
}
