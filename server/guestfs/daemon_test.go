package guestfs_test

import (
	"os"
	"strconv"
	"testing"

	hypervisorv1 "github.com/hyperplane-project/hyperplane/gen/go/hyperplane/hypervisor/v1"
	"github.com/hyperplane-project/hyperplane/server/guestfs"
	"github.com/hyperplane-project/hyperplane/server/hypervisor"
)

func ignore(*hypervisorv1.FileEntry) error { return nil }

// TestAsDaemon is the process that TestEndOfTheDaemon kills. By itself it does nothing.
func TestAsDaemon(t *testing.T) {
	t.Parallel()
	file := os.Getenv("GUESTFS_DISK")
	if file == "" {
		return
	}
	format, err := strconv.Atoi(os.Getenv("GUESTFS_FORMAT"))
	if err != nil {
		t.Fatal(err)
	}
	d := hypervisor.Disk{File: file, Format: hypervisor.DiskFormat(format)}
	_ = service().Scan(t.Context(), guestfs.Root{Disk: d}, nil, func(*hypervisorv1.FileEntry) error {
		_, _ = os.Stdout.WriteString("+")
		<-t.Context().Done() // until it is killed
		return t.Context().Err()
	})
}
