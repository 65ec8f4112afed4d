// Command demo does, for real and from outside, what Hyperplane exists for: it exports a VM from a vCenter, converts its disk, creates the VM
// on libvirt and boots it. It uses the built programs only, its own libvirtd in namespaces of its own, and leaves nothing behind.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// patience is how long the demo may take in all.
const patience = 5 * time.Minute

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	ctx, cancel := context.WithTimeout(ctx, patience)
	err := run(ctx)
	cancel()
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "DEMO FAILED:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp("", "hp-demo-") // short: sockets lie below it
	if err != nil {
		return err
	}
	d := &demo{dir: dir, began: time.Now()}
	defer func() {
		if left := d.tearDown(); err == nil {
			err = left
		}
		if err == nil {
			d.sayOK()
		}
	}()
	for _, s := range []struct {
		what string
		do   func(context.Context) error
	}{
		{"building a guest with a bootable disk (Debian's kernel, busybox)", d.buildGuest},
		{"starting a private libvirtd", d.startLibvirt},
		{"starting a vCenter simulator that has the guest as a VM", d.startVCenter},
		{"starting hypervisord", d.startDaemon},
		{"submitting the export over REST and following it", d.export},
		{"reading the VM's serial console until the guest says its marker", d.readConsole},
		{"listing the VMs", d.list},
		{"destroying the VM", d.destroy},
	} {
		start := time.Now()
		fmt.Printf("== %s\n", s.what)
		if err := s.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", s.what, err)
		}
		d.times = append(d.times, step{s.what, time.Since(start)})
		fmt.Printf("   %.1f s\n", time.Since(start).Seconds())
	}
	return nil
}
