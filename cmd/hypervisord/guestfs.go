package main

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/hyperplane-project/hyperplane/internal/fault"
	"github.com/hyperplane-project/hyperplane/server/guestfs"
)

// newGuestFSCommand is the daemon's own child that works on guests' file systems. Nobody else calls it.
func newGuestFSCommand() *cobra.Command {
	return &cobra.Command{
		Use: guestfs.Argument, Hidden: true, Args: cobra.NoArgs, SilenceUsage: true, SilenceErrors: true,
		RunE: func(c *cobra.Command, _ []string) error {
			if guestfs.Main(c.Context(), os.Stdin, os.Stdout) != 0 {
				return fault.New(fault.Internal, "%s failed", guestfs.Argument)
			}
			return nil
		},
	}
}
