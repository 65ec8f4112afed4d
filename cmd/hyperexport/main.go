// Command hyperexport exports VMs from other platforms and converts disk images, without a daemon.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/hyperplane-project/hyperplane/clients/cli/exporter"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := exporter.Main(ctx, newEngine())
	stop()
	os.Exit(code)
}
