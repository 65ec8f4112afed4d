// Command hypervisor measures the daemon with many VMs, on the fake hypervisor: how long calls, a start and a change take, and what it costs to be idle.
// With -libvirt it also measures the start of a VM on a libvirt of its own against virsh doing the same.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/hyperplane-project/hyperplane/test/bench/daemon"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	many := flag.Int("vms", 10_000, "`number` of VMs")
	subscribers := flag.Int("subscribers", 1000, "`number` of watchers")
	rate := flag.Int("changes", 500, "`changes` per second while they watch")
	length := flag.Duration("for", 10*time.Second, "how long they watch")
	libvirt := flag.Bool("libvirt", true, "compare a start on libvirt with virsh")
	flag.Parse()
	err := run(ctx, options{*many, *subscribers, *rate, *length, *libvirt})
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench-hypervisor:", err)
		os.Exit(1)
	}
}

type options struct {
	vms, subscribers, rate int
	length                 time.Duration
	libvirt                bool
}

// few is the number of VMs that a rate is compared with.
const few = 100

func run(ctx context.Context, o options) (err error) {
	dir, err := os.MkdirTemp("", "hp-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if o.libvirt {
		if err := compareStart(ctx, filepath.Join(dir, "libvirt")); err != nil {
			return err
		}
	}
	started, err := daemon.New(ctx, dir, daemon.Fake)
	if err != nil {
		return err
	}
	d := bench{started}
	defer func() { err = errors.Join(err, d.Stop()) }()
	if err := d.Fill(ctx, few); err != nil {
		return err
	}
	slow, err := d.churn(ctx)
	if err != nil {
		return err
	}
	if err := d.Fill(ctx, 1000); err != nil {
		return err
	}
	if err := d.idle(ctx); err != nil {
		return err
	}
	began := time.Now()
	if err := d.Fill(ctx, o.vms); err != nil {
		return err
	}
	fmt.Printf("%-58s %.0f/s\n", fmt.Sprintf("create on the way from 1000 to %d VMs", o.vms), float64(o.vms-1000)/time.Since(began).Seconds())
	fast, err := d.churn(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("%-58s %.0f/s and %.0f/s: ratio %.2f (at least 0.8)\n", fmt.Sprintf("create and destroy with %d VMs and with %d", few, o.vms), slow, fast, fast/slow)
	if err := d.lists(ctx); err != nil {
		return err
	}
	if err := d.restart(ctx); err != nil {
		return err
	}
	return d.watch(ctx, o)
}
