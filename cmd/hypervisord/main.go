// Command hypervisord is the daemon: it runs the VMs of this host and moves VMs here from other platforms.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/hyperplane-project/hyperplane/internal/fault"
)

// The exit codes, as the help says them.
const (
	exitFailure = 1 // it could not start, or ended with an error
	exitUsage   = 2 // wrong flags or configuration
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := newCommand().ExecuteContext(ctx)
	stop()
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, "hypervisord:", err)
	if fault.Is(err, fault.InvalidArgument) {
		os.Exit(exitUsage)
	}
	os.Exit(exitFailure)
}
