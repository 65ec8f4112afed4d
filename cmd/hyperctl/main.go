// Command hyperctl works with a Hyperplane server: VMs, consoles, export jobs.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/hyperplane-project/hyperplane/clients/cli/ctl"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := ctl.Main(ctx)
	stop()
	os.Exit(code)
}
