package drivertest

import (
	"context"
	"errors"
	"io"
	"slices"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/providers/driver"
)

func testExportOff(t *testing.T, h *Harness) {
	t.Helper()
	v := h.open(t, h.Off, driver.OpenOptions{})
	if v.Resumed() {
		t.Error("a first view says that it was resumed")
	}
	if vm := v.VM(); vm.Path != h.Off.Path || len(vm.Disks) != len(h.Off.Disks) {
		t.Fatalf("the view is of %+v", vm)
	}
	for i, want := range h.Off.Disks {
		h.same(t, v, i, want)
	}
	h.finish(t, v, true)
}

func testExportOn(t *testing.T, h *Harness) {
	t.Helper()
	v := h.open(t, h.On, driver.OpenOptions{SnapshotName: "conformance"})
	changed := slices.Clone(h.On.Disks[0])
	copy(changed, "written while the view is open")
	if err := h.GuestWrite(h.On.Name, 0, changed[:512], 0); err != nil {
		t.Fatal(err)
	}
	h.same(t, v, 0, h.On.Disks[0])
	h.finish(t, v, true)

	// The next view sees the write: it was kept, not lost with the snapshot.
	next := h.open(t, h.On, driver.OpenOptions{})
	h.same(t, next, 0, changed)
	h.finish(t, next, true)
}

func testCreated(t *testing.T, h *Harness) {
	t.Helper()
	var tokens [][]byte
	v := h.open(t, h.On, driver.OpenOptions{Created: func(token []byte) error {
		tokens = append(tokens, token)
		return nil
	}})
	if len(tokens) == 0 {
		t.Fatal("Created was not called")
	}
	if last := tokens[len(tokens)-1]; string(last) != string(v.Token()) {
		t.Errorf("Created got %q, Token gives %q", last, v.Token())
	}
	h.finish(t, v, false)
}

// testCreatedError refuses each of the calls of Created in turn.
func testCreatedError(t *testing.T, h *Harness) {
	t.Helper()
	disk := errors.New("no room to persist the token")
	for refuse := 1; ; refuse++ {
		calls := 0
		v, err := h.Driver.Open(t.Context(), h.On.Path, driver.OpenOptions{Created: func([]byte) error {
			if calls++; calls == refuse {
				return disk
			}
			return nil
		}})
		if err == nil {
			h.finish(t, v, false)
			if refuse == 1 {
				t.Fatal("Created was not called")
			}
			return
		}
		if !errors.Is(err, disk) {
			t.Fatalf("open fails with %v, want the error of Created", err)
		}
		h.nothingLeft(t)
	}
}

func testUnknownDisk(t *testing.T, h *Harness) {
	t.Helper()
	v := h.open(t, h.Off, driver.OpenOptions{})
	_, err := v.OpenDisk(t.Context(), "no such disk")
	wantCode(t, err, fault.NotFound)
	h.finish(t, v, false)
}

func testParallelDisks(t *testing.T, h *Harness) {
	t.Helper()
	v := h.open(t, h.Off, driver.OpenOptions{})
	var group errgroup.Group
	for i, want := range h.Off.Disks {
		group.Go(func() error {
			got, err := h.read(t, v, i)
			if err == nil && string(got) != string(want) {
				err = errors.New("content differs")
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	h.finish(t, v, true)
}

func testSlowReader(t *testing.T, h *Harness) {
	t.Helper()
	if !h.has(t, "ViewLife", h.ViewLife > 0) {
		return
	}
	v := h.open(t, h.Off, driver.OpenOptions{})
	first := v.VM().Disks[0].ID
	c, err := v.OpenDisk(t.Context(), first)
	if err != nil {
		t.Fatal(err)
	}
	paused := driver.Content{Stream: &pausing{r: c.Stream, pause: func() { pause(t, 3*h.ViewLife) }}, Format: c.Format, StreamSize: c.StreamSize}
	if _, err := h.Decode(t, paused); err != nil {
		t.Fatalf("a reader that pauses for three times the life of a view: %v", err)
	}
	closeContent(t, c)
	h.same(t, v, 1, h.Off.Disks[1])
	h.finish(t, v, true)
}

// pausing is a stream whose reader does something else after the first bytes.
type pausing struct {
	r     io.ReadCloser
	pause func()
	began bool
}

func (p *pausing) Read(b []byte) (int, error) {
	n, err := p.r.Read(b[:min(len(b), 4096)])
	if !p.began {
		p.began = true
		p.pause()
	}
	return n, err
}

func (p *pausing) Close() error { return p.r.Close() }

func testExpiry(t *testing.T, h *Harness) {
	t.Helper()
	if !h.has(t, "Expire", h.Expire != nil) {
		return
	}
	for _, m := range []Machine{h.Off, h.On} {
		v := h.open(t, m, driver.OpenOptions{})
		if err := h.Expire(m.Name, 0, 50); err != nil {
			t.Fatal(err)
		}
		_, err := h.read(t, v, 0)
		wantCode(t, err, fault.Aborted)
		h.same(t, v, 0, m.Disks[0])
		h.finish(t, v, true)
	}
}

func testCut(t *testing.T, h *Harness) {
	t.Helper()
	if !h.has(t, "Cut", h.Cut != nil) {
		return
	}
	v := h.open(t, h.Off, driver.OpenOptions{})
	for _, percent := range []float64{0.1, 90, 99.99} {
		if err := h.Cut(h.Off.Name, 0, percent); err != nil {
			t.Fatal(err)
		}
		_, err := h.read(t, v, 0)
		wantCode(t, err, fault.Unavailable)
		h.same(t, v, 0, h.Off.Disks[0])
	}
	h.finish(t, v, true)
}

// testCancelOpen cancels Open when it says that it is about to make something, and when it has.
func testCancelOpen(t *testing.T, h *Harness) {
	t.Helper()
	for after := 1; after <= 2; after++ {
		ctx, cancel := context.WithCancel(t.Context())
		calls := 0
		v, err := h.Driver.Open(ctx, h.On.Path, driver.OpenOptions{Created: func([]byte) error {
			if calls++; calls == after {
				cancel()
			}
			return nil
		}})
		cancel()
		if err == nil { // it had nothing left to do
			h.finish(t, v, false)
			continue
		}
		wantCode(t, err, fault.Canceled)
		h.nothingLeft(t)
	}
}

func testCancelRead(t *testing.T, h *Harness) {
	t.Helper()
	if !h.has(t, "Slow", h.Slow != nil) {
		return
	}
	if err := h.Slow(h.On.Name, 0, 64<<10); err != nil {
		t.Fatal(err)
	}
	v := h.open(t, h.On, driver.OpenOptions{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c, err := v.OpenDisk(ctx, v.VM().Disks[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	_, err = h.Decode(t, c)
	wantCode(t, err, fault.Canceled)
	closeContent(t, c)
	h.finish(t, v, false)
}

func testCloseTwice(t *testing.T, h *Harness) {
	t.Helper()
	for _, m := range []Machine{h.Off, h.On} {
		v := h.open(t, m, driver.OpenOptions{})
		h.finish(t, v, true)
		h.finish(t, v, false)
		_, err := v.OpenDisk(t.Context(), v.VM().Disks[0].ID)
		wantCode(t, err, fault.FailedPrecondition)
	}
}

func testCloseEndsStreams(t *testing.T, h *Harness) {
	t.Helper()
	if !h.has(t, "Slow", h.Slow != nil) {
		return
	}
	if err := h.Slow(h.Off.Name, 0, 64<<10); err != nil {
		t.Fatal(err)
	}
	v := h.open(t, h.Off, driver.OpenOptions{})
	c, err := v.OpenDisk(t.Context(), v.VM().Disks[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	h.finish(t, v, false)
	if _, err := h.Decode(t, c); err == nil {
		t.Error("a stream of a closed view ends as if all were read")
	}
	closeContent(t, c)
}
