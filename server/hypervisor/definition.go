package hypervisor

import "context"

// Definitions are machines in the virtualisation service's own words, for machines that are taken over from others and given back.
type Definitions interface {
	// Definition returns how a machine will be at its next start, in the service's own form. It may hold secrets.
	Definition(ctx context.Context, uuid string) ([]byte, error)
	// Redefine makes a machine known by what Definition returned, with these files for its disks (without CDs and floppies), in their order. AlreadyExists if
	// its UUID or its name is taken, InvalidArgument if the number of disks is another.
	Redefine(ctx context.Context, definition []byte, files []string) error
}
