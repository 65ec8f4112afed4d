package guestfs_test

import (
	"os"
	"testing"

	"github.com/hyperplane-project/hyperplane/server/guestfs"
)

// TestMain lets the test program be the child too.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == guestfs.Argument {
		os.Exit(guestfs.Main(contextOfChild(), os.Stdin, os.Stdout))
	}
	os.Exit(m.Run())
}
