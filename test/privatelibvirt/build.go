package privatelibvirt

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/hyperplane-project/hyperplane/internal/procexec"
)

// supervisorPackage is built on demand: process 1 of the namespaces must be a small program of its own, because the calling
// process has threads and children that must stay where they are.
const supervisorPackage = "github.com/hyperplane-project/hyperplane/test/privatelibvirt/cmd/libvirt-supervisor"

// buildSupervisor returns the path of the supervisor program. The go command sees whether it is up to date.
func buildSupervisor(ctx context.Context) (string, error) {
	dir, err := cacheDir("bin")
	if err != nil {
		return "", err
	}
	program := filepath.Join(dir, "libvirt-supervisor")
	_, err = procexec.Runner{}.Run(ctx, procexec.Command{Program: "go", Args: []string{"build", "-o", program, supervisorPackage}})
	if err != nil {
		return "", fmt.Errorf("build the supervisor: %w", err)
	}
	return program, nil
}

// cacheDir returns a folder for things that are costly to make again.
func cacheDir(name string) (string, error) {
	base, err := os.UserCacheDir()
	if err != nil {
		base = os.TempDir()
	}
	dir := filepath.Join(base, "hyperplane", name)
	return dir, os.MkdirAll(dir, 0o755)
}
