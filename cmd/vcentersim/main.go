// Command vcentersim runs a vCenter simulator with real disks, to try exports and their failures without VMware. It is a tool for tests,
// demonstrations and benchmarks, and serves on loopback unless told otherwise.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	err := newCommand().ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "vcentersim:", err)
		os.Exit(1)
	}
}
