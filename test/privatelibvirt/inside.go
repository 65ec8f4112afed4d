package privatelibvirt

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// InNetwork runs f on a thread that is in the instance's network namespace: what f dials, guests can answer.
// Sockets that f opens stay in that namespace; goroutines that f starts are not in it.
func (inst *Instance) InNetwork(f func() error) error {
	done := make(chan error, 1)
	go func() {
		// Never unlocked: the thread ends with the goroutine, so no other goroutine runs in the wrong namespace.
		runtime.LockOSThread()
		done <- inst.enterNetwork(f)
	}()
	return <-done
}

func (inst *Instance) enterNetwork(f func() error) error {
	ns, err := os.Open(filepath.Join("/proc", strconv.Itoa(inst.PID), "ns", "net"))
	if err != nil {
		return err
	}
	defer func() { _ = ns.Close() }()
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter the network of process %d: %w", inst.PID, err)
	}
	return f()
}

// LibvirtdPID returns libvirtd's process, as seen from outside.
func (inst *Instance) LibvirtdPID() (int, error) {
	return findProcess(func(proc string) bool {
		status, err := os.ReadFile(filepath.Join(proc, "status"))
		return err == nil && bytes.HasPrefix(status, []byte("Name:\tlibvirtd\n")) &&
			bytes.Contains(status, fmt.Appendf(nil, "\nPPid:\t%d\n", inst.PID))
	})
}

// GuestPID returns the process, as seen from outside, that runs the machine with the given UUID.
func GuestPID(machineUUID string) (int, error) {
	// QEMU is started with "-uuid UUID", which tells it from other programs that mention the machine.
	want := []byte("\x00-uuid\x00" + machineUUID + "\x00")
	pid, err := findProcess(func(proc string) bool {
		cmdline, err := os.ReadFile(filepath.Join(proc, "cmdline"))
		return err == nil && bytes.Contains(cmdline, want)
	})
	if err != nil {
		return 0, fmt.Errorf("machine %s: %w", machineUUID, err)
	}
	return pid, nil
}

// findProcess returns the first process whose folder below /proc is the wanted one.
func findProcess(wanted func(proc string) bool) (int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return 0, err
	}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err == nil && wanted(filepath.Join("/proc", entry.Name())) {
			return pid, nil
		}
	}
	return 0, errors.New("no such process runs")
}
