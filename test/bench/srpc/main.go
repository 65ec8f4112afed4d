// Command srpc measures what calls over the legacy SRPC protocol cost the daemon, on the fake hypervisor: over TLS and after the move to the Unix socket, on one
// and four connections, with 1, 100 and 1000 VMs; beside it the same calls over gRPC. Then it measures how soon watchers learn of changes.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/hyperplane-project/hyperplane/test/bench/daemon"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	length := flag.Duration("for", time.Second, "how long each call is made")
	subscribers := flag.Int("subscribers", 100, "`number` of watchers")
	pause := flag.Duration("pause", 2*time.Millisecond, "between two changes while they watch")
	watching := flag.Duration("watch", 10*time.Second, "how long they watch")
	flag.Parse()
	err := run(ctx, options{*length, *pause, *watching, *subscribers})
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench-srpc:", err)
		os.Exit(1)
	}
}

type options struct {
	length, pause, watching time.Duration
	subscribers             int
}

func run(ctx context.Context, o options) (err error) {
	dir, err := os.MkdirTemp("", "hp-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	d, err := daemon.New(ctx, dir, daemon.Fake)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Stop()) }()
	b := bench{d, o}
	for _, vms := range []int{1, 100, 1000} {
		if err := d.Fill(ctx, vms); err != nil {
			return err
		}
		if err := b.calls(ctx); err != nil {
			return err
		}
	}
	return b.watch(ctx)
}

// bench measures a daemon.
type bench struct {
	*daemon.Daemon
	options
}
