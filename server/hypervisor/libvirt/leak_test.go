package libvirt_test

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/hyperplane-project/hyperplane/server/hypervisor"
	"github.com/hyperplane-project/hyperplane/test/privatelibvirt"
)

// TestNothingIsLeft uses a driver in every way that opens something, and looks for goroutines, sockets and files afterwards. It is not
// parallel, so that no other test's are found.
func TestNothingIsLeft(t *testing.T) {
	inst := privatelibvirt.New(t, privatelibvirt.Options{})
	run := runDir(t)
	d := openDriver(t, inst, run, t.Output())
	m := newMachine(t, d, func(s *hypervisor.Spec) { s.Console = hypervisor.ConsoleVNC })
	if _, err := d.Watch(t.Context()); err != nil {
		t.Fatal(err)
	}
	m.start()
	if _, err := d.OpenSerial(t.Context(), m.spec.UUID, false); err != nil {
		t.Fatal(err)
	}
	if _, err := d.OpenDisplay(t.Context(), m.spec.UUID); err != nil {
		t.Fatal(err)
	}
	for wait := range 5 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(wait)*200*time.Microsecond)
		_, _ = d.List(ctx)
		cancel()
	}
	m.must(d.Kill(t.Context(), m.spec.UUID))
	m.must(d.Undefine(t.Context(), m.spec.UUID))
	if left, err := os.ReadDir(run); err != nil || len(left) != 0 {
		t.Errorf("files left: %v, %v", left, err)
	}
	m.must(d.Close())
	awaitNone(t, "goroutines", func() []string {
		stacks := make([]byte, 1<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		var left []string
		for stack := range strings.SplitSeq(string(stacks), "\n\n") {
			if strings.Contains(stack, "go-libvirt") || strings.Contains(stack, "hypervisor/libvirt.(") {
				left = append(left, stack)
			}
		}
		return left
	})
	awaitNone(t, "sockets", func() []string {
		table, err := os.ReadFile("/proc/net/unix")
		if err != nil {
			t.Fatal(err)
		}
		var left []string
		for line := range strings.Lines(string(table)) {
			if strings.Contains(line, run) {
				left = append(left, line)
			}
		}
		return left
	})
	if names, err := filepath.Glob(filepath.Join(inst.Dir, "etc", "qemu", "*.xml")); err != nil || len(names) != 0 {
		t.Errorf("definitions left: %v, %v", names, err)
	}
}

// awaitNone waits until find finds nothing.
func awaitNone(t *testing.T, what string, find func() []string) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(10 * time.Second)
	for {
		left := find()
		if len(left) == 0 {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%s left:\n%s", what, strings.Join(left, "\n\n"))
		}
	}
}
