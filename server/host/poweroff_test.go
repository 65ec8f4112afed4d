package host_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/internal/procexec"
)

func TestPowerOff(t *testing.T) {
	t.Parallel()
	s, w := newService(t)
	off := func(stop bool) error {
		_, err := s.PowerOff(t.Context(), &hypervisorv1.PowerOffRequest{StopVms: stop})
		return err
	}
	err := off(false)
	if !fault.Is(err, fault.FailedPrecondition) || !strings.Contains(err.Error(), "ip-a (running)") || strings.Contains(err.Error(), "ip-b") {
		t.Errorf("while VMs run: %v", err)
	}
	w.stubborn = true
	if err := off(true); !fault.Is(err, fault.FailedPrecondition) || !strings.Contains(err.Error(), "does not stop") {
		t.Errorf("VMs that do not stop: %v", err)
	}
	if len(w.ran) != 0 {
		t.Fatalf("ran %v", w.ran)
	}
	w.stubborn = false
	w.running = func() {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, _, err := w.Acquire(ctx, "a"); !errors.Is(err, context.Canceled) {
			t.Errorf("a VM could be started meanwhile: %v", err)
		}
	}
	for _, stop := range []bool{true, false} { // now they are stopped
		if err := off(stop); err != nil {
			t.Fatal(err)
		}
	}
	want := procexec.Command{Program: "poweroff", Args: []string{"--now"}}
	if diff := cmp.Diff([]procexec.Command{want, want}, w.ran); diff != "" {
		t.Error(diff)
	}
	w.fail = fault.New(fault.Internal, "no permission")
	if err := off(false); !errors.Is(err, w.fail) {
		t.Error(err)
	}
	s.PowerOffCommand = nil
	if err := off(true); !fault.Is(err, fault.FailedPrecondition) || !strings.Contains(err.Error(), "power_off_command") {
		t.Errorf("without a command: %v", err)
	}
	for _, info := range w.List() {
		if _, release, err := w.Acquire(t.Context(), info.GetUuid()); err != nil {
			t.Error(err)
		} else {
			release()
		}
	}
}
